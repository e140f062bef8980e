"""What a network loses when one group of layers alone loses half of its channels, or one block goes; nothing is trained."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from edgekd.context import Progress
from edgekd.data import Part
from edgekd.evaluate import judge_outputs, run_module
from edgekd.metrics import Metric
from edgekd.models.edits.branches import drop_edit, drop_modules
from edgekd.models.network import count_macs
from edgekd.models.signature import Signature
from edgekd.stages.prune.depth import influences, rows_of
from edgekd.stages.prune.groups import Group
from edgekd.stages.prune.one_group import cut_alone
from edgekd.stages.prune.settings import PruneSettings


@dataclass(frozen=True)
class GroupSensitivity:
    """A group, cut alone.

    `cut` channels are gone, with `macs`, a share of the network's; `score` is the metric then and `drop` how much worse it
    is. None where the granularity leaves the group uncut.
    """

    group: Group
    cut: int
    macs: float | None = None
    score: float | None = None
    drop: float | None = None


@dataclass(frozen=True)
class BlockSensitivity:
    """A block of a residual network, left out alone: its influence, and as of a group what is gone and lost."""

    block: str
    influence: float
    macs: float
    score: float
    drop: float


@dataclass(frozen=True)
class Sensitivity:
    """The groups, most sensitive first, and the blocks that may be left out, least influence first.

    `score` is the uncut network's on these samples of the validation part.
    """

    metric: str
    unit: str
    samples: int
    granularity: int
    score: float
    groups: tuple[GroupSensitivity, ...]
    blocks: tuple[BlockSensitivity, ...] = ()


def sensitivity(
    module: nn.Module,
    signature: Signature,
    settings: PruneSettings,
    granularity: int,
    groups: Sequence[Group],
    part: Part,
    metric: Metric,
    calibration: Part | None,
    progress: Progress,
) -> Sensitivity:
    """Cut every group alone, leave every block out alone that may go, and judge what is left.

    Args:
        module: the network, which is not changed.
        signature: its inputs.
        settings: the importance, and the largest cut where it is below a half.
        granularity: what channel counts stay multiples of.
        groups: those that may be cut.
        part: samples to judge on.
        metric: decides; a fidelity compares with the uncut network.
        calibration: samples for the importance and the influence, where it needs them; None: those to judge on.
        progress: shows a bar.
    """
    reference = run_module(module, part)
    score, macs = judge_outputs(reference, reference, part, metric), count_macs(module, signature)
    names = [name for row in rows_of(module, signature, settings.keep) for name in row.removable]
    influence = influences(module, names, calibration or part) if names else {}

    def judged(network: nn.Module) -> tuple[float, float, float]:
        value = judge_outputs(run_module(network, part), reference, part, metric)
        return 1 - count_macs(network, signature) / macs, value, metric.drop(score, value)

    found, blocks = [], []
    with progress("sensitivity", len(groups) + len(names)) as advance:
        for group in groups:
            cut = cut_alone(module, signature, settings, granularity, group, groups, calibration)
            if cut is None:
                found.append(GroupSensitivity(group, 0))
            else:
                found.append(GroupSensitivity(group, cut.channels, *judged(cut.network)))
            advance(1)
        for name in sorted(names, key=lambda name: influence[name]):
            without = drop_modules(copy.deepcopy(module), drop_edit([name], "identity"), signature)
            blocks.append(BlockSensitivity(name, influence[name], *judged(without)))
            advance(1)
    found.sort(key=lambda one: float("inf") if one.drop is None else -one.drop)
    return Sensitivity(metric.name, metric.unit, len(part), granularity, score, tuple(found), tuple(blocks))
