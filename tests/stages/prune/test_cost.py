"""Milliseconds: as a budget, and as what the importance is divided by. Times are given; no file is written or timed here."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from edgekd import host
from edgekd.context import Context
from edgekd.errors import BudgetMissed, InputError
from edgekd.models.network import count_macs, count_parameters
from edgekd.models.signature import Signature
from edgekd.request import Request, prepare
from edgekd.stages.prune import STAGE, PruneSettings, cost, latency
from edgekd.stages.prune.cost import channel_costs
from edgekd.stages.prune.groups import prunable_groups
from edgekd.stages.prune.pruner import prune_until
from edgekd.state import ModelState

from .networks import convolutions, signed

Milliseconds = Callable[[nn.Module, Signature], float]


class Session:
    """Files timed together."""

    def __init__(self, times: Mapping[str, float]) -> None:
        self.times = times

    def comparison(self, baseline: str, candidate: str) -> object:
        before, after = self.times[baseline], self.times[candidate]
        given = [SimpleNamespace(p50_ms=one) for one in (before, after)]
        return SimpleNamespace(speedup=before / after, baseline=given[0], candidate=given[1])


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Milliseconds], list[list[str]]]:
    """Return what makes networks take a given time, and the sessions there were."""

    def give(milliseconds: Milliseconds) -> list[list[str]]:
        sessions: list[list[str]] = []

        def write(module: nn.Module, signature: Signature, path: Path, **options: object) -> None:
            path.write_text(str(milliseconds(module, signature)))

        def time_files(files: Mapping[str, Path], *given: object, **options: object) -> Session:
            sessions.append(list(files))
            return Session({name: float(path.read_text()) for name, path in files.items()})

        for module in (cost, latency):
            monkeypatch.setattr(module, "write_onnx", write)
        monkeypatch.setattr(host, "time_files", time_files)
        return sessions

    return give


def macs_in_ms(module: nn.Module, signature: Signature) -> float:
    return count_macs(module, signature) / 1e6


def test_a_channel_costs_what_the_file_without_it_saves(
    context: Context, state: ModelState, tmp_path: Path, timed: Callable[[Milliseconds], list[list[str]]]
) -> None:
    sessions = timed(lambda module, _: count_parameters(module) / 1e3)
    module, said = state.torch.module, []
    context = replace(context, workdir=tmp_path, log=said.append)
    costs = channel_costs(module, state.signature, PruneSettings(to_macs=0.5), 4, context)
    groups = prunable_groups(module, state.signature)
    assert set(costs) == {group.root for group in groups} and sum(map(len, sessions)) >= len(groups) + 1
    first, second = module.blocks[2].conv1, module.blocks[2].conv2
    weights = 9 * first.in_channels + 2 + 9 * second.out_channels  # a filter, its norm, and what reads it
    assert costs["blocks.2.conv1"] == pytest.approx(weights / 1e3)
    assert len(said) == len(groups) and not list(tmp_path.iterdir())


def test_no_channel_is_free(
    context: Context, state: ModelState, tmp_path: Path, timed: Callable[[Milliseconds], list[list[str]]]
) -> None:
    whole = count_parameters(state.torch.module)
    timed(lambda module, _: 1.0 if count_parameters(module) == whole else 1.1)  # cut ones are slower, by noise
    costs = channel_costs(
        state.torch.module, state.signature, PruneSettings(to_macs=0.5), 4, replace(context, workdir=tmp_path)
    )
    half = state.torch.module.blocks[2].conv1.out_channels // 2
    assert costs["blocks.2.conv1"] == pytest.approx(0.01 / half)


def test_groups_that_the_granularity_leaves_uncut_cost_nothing(
    context: Context, state: ModelState, tmp_path: Path, timed: Callable[[Milliseconds], list[list[str]]]
) -> None:
    sessions = timed(macs_in_ms)
    settings, here = PruneSettings(to_macs=0.5), replace(context, workdir=tmp_path)
    assert channel_costs(state.torch.module, state.signature, settings, 64, here) == {} and not sessions


def test_dear_channels_go_before_cheap_ones() -> None:
    for dear, cheap in (("0", "3"), ("3", "0")):
        network = convolutions()
        signature = signed(network, 1, 6, 6)
        settings = PruneSettings(to_macs=0.5, steps=50)
        whole = {"0": 16, "3": 32}

        def met(candidate: object, network: object = network) -> bool:
            return network[0].out_channels + network[3].out_channels <= 40  # type: ignore[index]

        prune_until(network, signature, settings, 4, met, costs={dear: 10.0, cheap: 0.1})
        widths = {"0": network[0].out_channels, "3": network[3].out_channels}
        assert widths[cheap] == whole[cheap] and widths[dear] < whole[dear]


def test_milliseconds_are_a_budget(
    context: Context, state: ModelState, tmp_path: Path, timed: Callable[[Milliseconds], list[list[str]]]
) -> None:
    timed(macs_in_ms)
    here = replace(context, workdir=tmp_path)
    half = macs_in_ms(state.torch.module, state.signature) / 2
    settings = PruneSettings(to_ms=half, granularity=4)
    after = STAGE.run(state, settings, here)
    assert half / 2 < after.notes["latency_ms"] <= half
    assert "machine" in STAGE.depends_on(settings, context)


def test_milliseconds_out_of_reach_are_known_from_the_smallest_network(
    context: Context, state: ModelState, tmp_path: Path, timed: Callable[[Milliseconds], list[list[str]]]
) -> None:
    sessions, said = timed(macs_in_ms), []
    here = replace(context, workdir=tmp_path, log=said.append)
    with pytest.raises(BudgetMissed, match=r"cannot reach 0\.0001 ms: 0\.\d+ ms is left when every layer"):
        STAGE.run(state, PruneSettings(to_ms=0.0001, granularity=4), here)
    assert len(sessions) == 1 and any("measured 0." in line for line in said)


def test_a_latency_aware_cut_leaves_less_where_time_goes(
    context: Context, state: ModelState, tmp_path: Path, timed: Callable[[Milliseconds], list[list[str]]]
) -> None:
    timed(macs_in_ms)
    here = replace(context, workdir=tmp_path)
    half = macs_in_ms(state.torch.module, state.signature) / 2
    plain, aware = (
        STAGE.run(state, PruneSettings(to_ms=half, granularity=4, latency_aware=told), here) for told in (False, True)
    )
    assert aware.notes["latency_ms"] <= half
    weights = [count_parameters(made.torch.module) for made in (plain, aware)]
    assert weights[1] > weights[0]  # late layers hold weights, early ones take time


@pytest.mark.parametrize("settings", [{"to_ms": 1.0}, {"to_macs": 0.5, "latency_aware": True}])
def test_figures_of_another_machine_drive_nothing(settings: dict[str, object], example: Path) -> None:
    made = prepare(Request(example / "model.pt", ("raspberry-pi-5",), threads=1))
    with pytest.raises(InputError, match=r"(to_ms|latency_aware): this machine is no Raspberry Pi 5"):
        STAGE.check(PruneSettings.model_validate(settings), made.opened.state, made.contexts[0])


def test_the_machine_is_part_of_what_a_latency_aware_cut_depends_on(context: Context) -> None:
    assert "machine" in STAGE.depends_on(PruneSettings(to_macs=0.5, latency_aware=True), context)
    assert "machine" not in STAGE.depends_on(PruneSettings(to_macs=0.5), context)
    assert STAGE.depends_on(PruneSettings(to_macs=0.5, importance="activation"), context)["data"] is True
    assert STAGE.depends_on(PruneSettings(to_macs=0.5, importance="fpgm"), context)["data"] is False
