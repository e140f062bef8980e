"""What a channel costs: milliseconds on the runtime, measured group by group on this machine.

```
network ──┬── half of group 1 cut ── ONNX ──┐
          ├── half of group 2 cut ── ONNX ──┼── timed in the same interleaved rounds as the network
          └── ...                           ┘            milliseconds saved / channels cut = cost of a channel
```
Half of a group, not one step of the granularity: a step of a few channels saves less than two sessions of one file differ
by. What a group saves is at least 1 % of the latency, for the same reason; without a floor, noise near zero would make
channels infinitely dear.

Source: the idea is that of latency-constrained pruning, e.g. Shen et al., Structural Pruning via Latency-Saliency Knapsack
(HALP), 2022. edgekd variant: importance per millisecond, measured once before the first cut.
"""

from collections.abc import Sequence

from torch import nn

from edgekd import host
from edgekd.context import Context
from edgekd.models.signature import Signature
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.prune.groups import Group, prunable_groups
from edgekd.stages.prune.latency import ROUNDS
from edgekd.stages.prune.one_group import cut_alone
from edgekd.stages.prune.settings import PruneSettings

_FLOOR = 0.01  # of the latency: copies of one file differ by up to 1.5 % (device/comparison.py)
_TOGETHER = 8  # groups timed in one session


def channel_costs(
    module: nn.Module, signature: Signature, settings: PruneSettings, granularity: int, context: Context
) -> dict[str, float]:
    """Return the cost of one channel in milliseconds, by the layer that names its group.

    Groups that the granularity leaves uncut have none.
    """
    groups = prunable_groups(module, signature, settings.keep, settings.axes)
    plain = settings.model_copy(update={"importance": "magnitude"})  # which channels go does not matter here
    costs: dict[str, float] = {}
    with context.progress("measure groups", len(groups)) as advance:
        for start in range(0, len(groups), _TOGETHER):
            chosen = groups[start : start + _TOGETHER]
            costs |= _session(module, signature, plain, granularity, context, chosen, groups)
            advance(len(chosen))
    return costs


def _session(
    module: nn.Module,
    signature: Signature,
    settings: PruneSettings,
    granularity: int,
    context: Context,
    chosen: Sequence[Group],
    groups: Sequence[Group],
) -> dict[str, float]:
    files = {"": context.workdir / "whole.onnx"}
    removed = {}
    for number, group in enumerate(chosen):
        cut = cut_alone(module, signature, settings, granularity, group, groups)
        if cut is not None:
            files[group.root] = context.workdir / f"group-{number}.onnx"
            removed[group.root] = cut.channels
            write_onnx(cut.network, signature, files[group.root], opset=context.runtime.opset)
    if not removed:
        return {}
    write_onnx(module, signature, files[""], opset=context.runtime.opset)
    timed = host.time_files(files, "onnxruntime", signature, context.runtime.threads, rounds=ROUNDS)
    for path in files.values():
        path.unlink()
    costs = {}
    for root, channels in removed.items():
        compared = timed.comparison("", root)
        saved = compared.baseline.p50_ms * max(1 - 1 / compared.speedup, _FLOOR)
        costs[root] = saved / channels
        context.log(
            f"prune: {channels} channels of {root} less: {compared.speedup:.3f} times as fast; "
            f"a channel costs {1000 * costs[root]:.3g} us"
        )
    return costs
