"""What a network loses when one group of layers alone loses half of its channels, and nothing is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from edgekd.context import Progress
from edgekd.data import Part
from edgekd.evaluate import judge_outputs, run_module
from edgekd.metrics import Metric
from edgekd.models.network import count_macs
from edgekd.models.signature import Signature
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
class Sensitivity:
    """The groups, most sensitive first; `score` is the uncut network's on these samples of the validation part."""

    metric: str
    unit: str
    samples: int
    granularity: int
    score: float
    groups: tuple[GroupSensitivity, ...]


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
    """Cut every group alone and judge what is left.

    Args:
        module: the network, which is not changed.
        signature: its inputs.
        settings: the importance, and the largest cut where it is below a half.
        granularity: what channel counts stay multiples of.
        groups: those that may be cut.
        part: samples to judge on.
        metric: decides; a fidelity compares with the uncut network.
        calibration: samples for the importance, where it needs them.
        progress: shows a bar.
    """
    reference = run_module(module, part)
    score, macs = judge_outputs(reference, reference, part, metric), count_macs(module, signature)
    found = []
    with progress("sensitivity", len(groups)) as advance:
        for group in groups:
            cut = cut_alone(module, signature, settings, granularity, group, groups, calibration)
            if cut is None:
                found.append(GroupSensitivity(group, 0))
            else:
                value = judge_outputs(run_module(cut.network, part), reference, part, metric)
                less = 1 - count_macs(cut.network, signature) / macs
                found.append(GroupSensitivity(group, cut.channels, less, value, metric.drop(score, value)))
            advance(1)
    found.sort(key=lambda one: float("inf") if one.drop is None else -one.drop)
    return Sensitivity(metric.name, metric.unit, len(part), granularity, score, tuple(found))
