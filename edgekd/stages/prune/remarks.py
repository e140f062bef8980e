"""What a person should know of a cut: why no more can go, and which layers lose nothing."""

from collections.abc import Sequence

from torch import nn

from edgekd.stages.prune.groups import Group, tied_names
from edgekd.stages.prune.settings import PruneSettings

_SHOWN = 5  # names in a message


def why_no_less(
    module: nn.Module, settings: PruneSettings, groups: Sequence[Group], multiple: int, lost: Sequence[str]
) -> str:
    """Return why no more can go than is gone in the smallest network, and what a person can change."""
    if not settings.cuts_widths:
        return (
            "when every block that may go is gone (the first and the last of a row stay); raise "
            f"{settings.budget} or largest_cut, or let axes name widths too"
        )
    if settings.cuts_depth or any(group.fits(multiple) for group in groups):
        return (
            f"when every layer that may be cut has lost what it may; raise {settings.budget}, largest_cut, or lower "
            "granularity"
        )
    if groups:
        return f"because no layer has more channels than granularity = {multiple}; lower it or leave pruning out"
    return f"because no layer may lose channels{_causes(module, settings, lost)}; leave pruning out"


def _causes(module: nn.Module, settings: PruneSettings, lost: Sequence[str]) -> str:
    """Return, in brackets, what keeps the layers of a network without a group to cut as they are."""
    recurrent = [name for name, layer in module.named_modules() if isinstance(layer, nn.RNNBase)]
    causes = ["those that make the outputs stay as they are"]
    if tied := tied_names(module):
        causes.append(f"{_few(tied)} hold one and the same weights, and so does what they read and write")
    if lost:
        causes.append(_not_followed(lost))
    if recurrent:
        causes.append(f"recurrent layers are not pruned: {_few(recurrent)}")
    if settings.keep:
        causes.append(f"keep names {_few(settings.keep)}")
    return f" ({'; '.join(causes)})"


def left_uncut(module: nn.Module, groups: Sequence[Group], multiple: int, lost: Sequence[str]) -> list[str]:
    """Return remarks on layers that nothing will be cut of; `lost` are those whose channels cannot be followed."""
    remarks = [f"{_not_followed(lost)}; they are left whole"] if lost else []
    if tied := tied_names(module):
        remarks.append(f"{', '.join(tied)} hold one and the same weights: what would change them is left as it is")
    small = [f"{group.root} ({_width(group)})" for group in groups if not group.fits(multiple)]
    if small:
        remarks.append(
            f"multiples of {multiple} leave {len(small)} of {len(groups)} groups uncut: {_few(small)}; "
            "a lower granularity would cut them"
        )
    return remarks


def _not_followed(lost: Sequence[str]) -> str:
    return (
        f"forward takes channels of {_few(lost)} apart or moves them (split, slice, shuffle) in a way that cannot be followed "
        "(write chunk for equal parts that are used once, or a layer for each part)"
    )


def not_whole(groups: Sequence[Group]) -> list[str]:
    """Return a remark on attentions that lose features of every head because their number cannot be changed."""
    fixed = [group.root for group in groups if group.axis == "heads" and group.unit == 1]
    if not fixed:
        return []
    return [
        f"heads of {_few(fixed)} lose as many features each and none goes as a whole: no attribute of the "
        "attention that holds their number (heads, num_heads, ...) is obeyed by its forward"
    ]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _width(group: Group) -> str:
    if group.unit > 1:
        return f"{group.channels // group.unit} whole heads of {group.unit} channels"
    return (
        f"{group.channels} channels"
        if group.parts == 1
        else f"{group.parts} x {group.channels // group.parts} channels"
    )
