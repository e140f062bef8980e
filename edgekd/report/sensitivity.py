"""The table of what every prunable group is worth."""

from typing import TYPE_CHECKING

from edgekd.report.console import print_table, results

if TYPE_CHECKING:
    from edgekd.stages.prune.sensitivity import GroupSensitivity, Sensitivity


def show_sensitivity(found: "Sensitivity") -> None:
    """Print the groups, most sensitive first."""
    unit = f" {found.unit}" if found.unit else ""
    results.print(
        f"\nevery group cut alone, in multiples of {found.granularity}, nothing trained afterwards;\n"
        f"{found.metric} of the whole network {found.score:.4g}{unit} on {found.samples:,} samples of the validation part",
        markup=False,
    )
    head = ["prunable group", ">channels", ">cut", ">MACs less", f">{found.metric}", ">drop"]
    print_table(head, [_cells(one) for one in found.groups])
    if found.blocks:
        results.print('\nblocks that may be left out (axes = ["depth"]), least influence first', markup=False)
        rows = [
            (one.block, f"{one.influence:.4f}", f"{one.macs:.1%}", f"{one.score:.2f}", f"{one.drop:.2f}")
            for one in found.blocks
        ]
        print_table(["block", ">influence", ">MACs less", f">{found.metric}", ">drop"], rows)


def _cells(one: "GroupSensitivity") -> tuple[str, ...]:
    group = one.group
    name = f"{group.root} ({group.axis})" if group.axis else group.root
    if one.score is None or one.drop is None or one.macs is None:
        return name, str(group.channels), "cannot", "", "", ""
    return name, str(group.channels), str(one.cut), f"{one.macs:.1%}", f"{one.score:.2f}", f"{one.drop:.2f}"
