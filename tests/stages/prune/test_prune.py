import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from edgekd import host
from edgekd.context import Context
from edgekd.data import Dataset, split
from edgekd.errors import BudgetMissed, InputError, StageError
from edgekd.models.edits import apply_edits
from edgekd.models.network import count_macs, example_inputs, learn_outputs
from edgekd.models.networks import NETWORKS
from edgekd.models.signature import Signature, TensorSpec
from edgekd.recipe import parse_recipe
from edgekd.request import Request, prepare
from edgekd.stages import KINDS
from edgekd.stages.prune import STAGE, PruneSettings
from edgekd.stages.prune.groups import prunable_groups
from edgekd.stages.prune.latency import milliseconds_of, share_of
from edgekd.stages.prune.pruner import prune_until
from edgekd.stages.prune.structure import structure_of
from edgekd.stages.quantize import STAGE as QUANTIZE
from edgekd.stages.quantize import QuantizeSettings
from edgekd.state import PreparedForm

from .networks import opened

IMAGE = (3, 32, 32)
CASES: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {
    "resnet8": ({}, IMAGE),
    "ds-cnn": ({}, (1, 49, 10)),
    "mobilenet-v1": ({"width": 0.5}, (3, 48, 48)),
    "mobilenet-v2": ({"num_classes": 10}, (3, 64, 64)),
    "unet": ({}, IMAGE),
    "vit": ({}, IMAGE),
    "autoencoder": ({}, (640,)),
}


def build(name: str) -> tuple[nn.Module, Signature]:
    import inspect

    torch.manual_seed(0)
    wanted, shape = CASES[name]
    accepted = inspect.signature(NETWORKS[name]).parameters
    network = NETWORKS[name](**{key: value for key, value in wanted.items() if key in accepted}).eval()
    if name == "vit" and "image_size" in accepted:
        shape = (3, accepted["image_size"].default, accepted["image_size"].default)
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", *shape)),))
    return network, learn_outputs(network, signature)


@pytest.mark.parametrize("name", list(CASES))
def test_every_bundled_network_is_pruned_to_half_and_runs(name: str) -> None:
    network, signature = build(name)
    before = count_macs(network, signature)
    settings = PruneSettings(to_macs=0.6)
    history = prune_until(network, signature, settings, 8, lambda m: count_macs(m, signature) <= 0.6 * before)
    assert history and count_macs(network, signature) <= 0.6 * before
    after = learn_outputs(network, signature)
    assert after.outputs == signature.outputs


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn", "mobilenet-v1", "mobilenet-v2", "unet"])
def test_channels_stay_multiples_of_the_granularity(name: str) -> None:
    network, signature = build(name)
    structure = structure_of(network, signature)
    odd = {layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.out_channels % 8}
    before = count_macs(network, signature)
    prune_until(network, signature, PruneSettings(to_macs=0.6), 8, lambda m: count_macs(m, signature) <= 0.6 * before)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer not in structure.outputs and layer not in odd:
            assert layer.out_channels % 8 == 0


@pytest.mark.parametrize("name", ["unet", "resnet8", "mobilenet-v2", "ds-cnn"])
def test_removing_channels_does_what_silencing_them_does(name: str) -> None:
    """With concatenations and residuals the indices have to match in every layer of a group."""
    network, signature = build(name)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    silenced = copy.deepcopy(network)
    settings = PruneSettings(to_macs=0.5, steps=1, largest_cut=0.5, scope="local")
    history = prune_until(network, signature, settings, 8, lambda m: False)
    assert history
    _silence(silenced, signature, history)
    x = torch.randn(2, *signature.inputs[0].sized(1)[1:])
    with torch.no_grad():
        torch.testing.assert_close(network(x), silenced(x), rtol=1e-4, atol=1e-5)


def _silence(network: nn.Module, signature: Signature, history: list[list[object]]) -> None:
    """Zero, everywhere, the channels that a one-step history removes."""
    import torch_pruning as tp

    graph = tp.DependencyGraph().build_dependency(network, tuple(example_inputs(signature).values()))
    for name, out, indices in history:
        layer = network.get_submodule(str(name))
        pruner = graph.get_pruner_of_module(layer)
        group = graph.get_pruning_group(layer, pruner.prune_out_channels if out else pruner.prune_in_channels, indices)
        for dep, members in group:
            part = dep.target.module
            ways_out = "out" in dep.handler.__name__
            if isinstance(part, nn.BatchNorm2d):
                part.weight.data[members] = part.bias.data[members] = 0
            elif isinstance(part, (nn.Conv2d, nn.Linear)) and (ways_out or getattr(part, "groups", 1) > 1):
                part.weight.data[members] = 0
                if part.bias is not None:
                    part.bias.data[members] = 0
            elif isinstance(part, (nn.Conv2d, nn.Linear)):
                part.weight.data[:, members] = 0


class Grouped(nn.Module):
    """A grouped convolution and a concatenation of unlike branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.grouped = nn.Conv2d(32, 32, 3, padding=1, groups=4)
        self.side = nn.Conv2d(32, 16, 1)
        self.head = nn.Conv2d(48, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x).relu()
        y = torch.cat([self.grouped(x).relu(), self.side(x).relu()], 1)
        return self.head(y), self.head(y).mean((2, 3))


def test_grouped_convolutions_concatenations_and_several_outputs() -> None:
    network = Grouped().eval()
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3, 16, 16)),))
    signature = learn_outputs(network, signature)
    assert [spec.name for spec in signature.outputs] == ["output1", "output2"]
    before = count_macs(network, signature)
    prune_until(network, signature, PruneSettings(to_macs=0.6), 4, lambda m: count_macs(m, signature) <= 0.6 * before)
    assert count_macs(network, signature) <= 0.6 * before
    assert network.head.out_channels == 5 and network.grouped.out_channels % 4 == 0
    assert learn_outputs(network, signature).outputs == signature.outputs


def test_attention_heads_keep_their_features_together() -> None:
    network, signature = build("vit")
    assert set(structure_of(network, signature).heads.values()) == {4}


def test_groups_name_their_layers() -> None:
    network, signature = build("resnet8")
    groups = prunable_groups(network, signature)
    assert any("blocks.0.conv1" in group.members and "blocks.0.bn1" in group.members for group in groups)
    assert all(group.root != "classifier" for group in groups)
    kept = prunable_groups(network, signature, keep=("blocks.0",))
    assert not any(group.root.startswith("blocks.0.conv1") for group in kept)
    with pytest.raises(InputError, match="no module nothing"):
        prunable_groups(network, signature, keep=("nothing",))


@pytest.mark.parametrize("importance", ["magnitude", "batch-norm", "taylor", "random"])
def test_every_importance_reaches_the_budget(importance: str, state: object, context: Context) -> None:
    settings = PruneSettings(to_parameters=0.5, importance=importance, granularity=8)  # type: ignore[arg-type]
    after = STAGE.run(state, settings, context)  # type: ignore[arg-type]
    assert after.notes["parameters_share"] <= 0.5 and after.lineage == ("prune",)


def test_the_parent_is_left_alone(state: object, context: Context) -> None:
    before = copy.deepcopy(state.torch.module.state_dict())  # type: ignore[attr-defined]
    STAGE.run(state, PruneSettings(to_macs=0.7, granularity=8), context)  # type: ignore[arg-type]
    after = state.torch.module.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_budget_out_of_reach_says_how_close_it_came(state: object, context: Context) -> None:
    with pytest.raises(BudgetMissed, match=r"cannot reach 1% of the macs: \d+\.\d% is left"):
        STAGE.run(state, PruneSettings(to_macs=0.01, granularity=8), context)  # type: ignore[arg-type]


def test_recurrent_layers_are_not_pruned_and_say_so(context: Context) -> None:
    network = NETWORKS["gru"]().eval()
    features = next(layer for layer in network.modules() if isinstance(layer, nn.GRU)).input_size
    prepared = prepare(
        Request(network, ("generic-x86",), data=Dataset({"input": torch.randn(200, 5, features).numpy()}), threads=1)
    )
    with pytest.raises(BudgetMissed, match="recurrent layers are not pruned"):
        STAGE.run(prepared.opened.state, PruneSettings(to_parameters=0.5), prepared.contexts[0])


def test_a_network_of_tied_layers_is_told_so() -> None:
    network = nn.Sequential(*(layer for _ in range(2) for layer in (nn.Linear(32, 32), nn.ReLU())), nn.Linear(32, 4))
    network[2].weight = network[0].weight
    state, context = opened(network, torch.randn(200, 32), torch.arange(200) % 4)
    with pytest.raises(BudgetMissed, match="0, 2 hold one and the same weights") as caught:
        STAGE.run(state, PruneSettings(to_macs=0.5, granularity=4), context)
    assert "recurrent" not in str(caught.value) and "leave pruning out" in str(caught.value)


def test_no_more_is_cut_than_the_budget_asks_for() -> None:
    """Layers alike lose a multiple each in one step; all of them would be far below the budget."""
    layers = [layer for _ in range(6) for layer in (nn.Linear(32, 32, bias=False), nn.ReLU())]
    for layer in layers[::2]:
        layer.weight.data = 1 + torch.arange(32.0)[:, None].expand(32, 32) / 100
    state, context = opened(nn.Sequential(*layers, nn.Linear(32, 4)), torch.randn(200, 32), torch.arange(200) % 4)
    settings = PruneSettings(to_macs=0.7, granularity=16, largest_cut=0.5)
    after = STAGE.run(state, settings, context)
    assert 0.6 < after.notes["macs_share"] <= 0.7 and "remarks" not in after.notes
    widths = [layer.out_features for layer in after.torch.module[::2]]
    assert {16, 32} <= set(widths)
    again = apply_edits(copy.deepcopy(state.torch.module), after.torch.edits, state.signature)
    assert [layer.out_features for layer in again[::2]] == widths


def test_a_cut_that_overshoots_says_by_what() -> None:
    said: list[str] = []
    state, context = opened(
        nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)), torch.randn(200, 8), torch.arange(200) % 4
    )
    after = STAGE.run(state, PruneSettings(to_macs=0.9, granularity=16), replace(context, log=said.append))
    assert after.notes["macs_share"] == 0.5
    assert any("the last cut, 16 channels of 0" in line and "a granularity below 16" in line for line in said)
    assert after.notes["remarks"] == [line.removeprefix("prune: ") for line in said if "last cut" in line]


def test_an_importance_of_batch_norms_needs_them() -> None:
    network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    prepared = prepare(
        Request(network, ("generic-x86",), data=Dataset({"input": torch.randn(200, 8).numpy()}), threads=1)
    )
    with pytest.raises(InputError, match="the network has none; use magnitude"):
        STAGE.check(PruneSettings(to_macs=0.5, importance="batch-norm"), prepared.opened.state, prepared.contexts[0])


def test_latency_of_another_machine_is_no_budget(state: object, context: Context) -> None:
    elsewhere = prepare(Request(state.torch.module, ("raspberry-pi-5",), data=context.parts.train.dataset, threads=1))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="this machine is no Raspberry Pi 5"):
        STAGE.check(PruneSettings(to_latency=0.5), elsewhere.opened.state, elsewhere.contexts[0])


def test_the_target_gives_the_granularity(context: Context) -> None:
    assert STAGE.depends_on(PruneSettings(to_macs=0.5), context)["granularity"] == 16
    other = replace(
        context,
        target=context.target.model_copy(
            update={"channels": context.target.channels.model_copy(update={"granularity": 32})}
        ),
    )
    assert STAGE.depends_on(PruneSettings(to_macs=0.5), other)["granularity"] == 32
    assert STAGE.depends_on(PruneSettings(to_macs=0.5, granularity=4), other)["granularity"] == 4


def test_frozen_weights_are_no_obstacle(example: Path, tmp_path: Path) -> None:
    """A network saved with a frozen backbone is pruned like any other, and its output layer is still found."""
    network = torch.load(example / "model.pt", weights_only=False).requires_grad_(False)
    torch.save(network, tmp_path / "model.pt")
    (tmp_path / "model.toml").write_text((example / "model.toml").read_text())
    prepared = prepare(Request(tmp_path / "model.pt", ("generic-x86",), data=example / "images.npz", threads=1))
    after = STAGE.run(prepared.opened.state, PruneSettings(to_macs=0.6, granularity=8), prepared.contexts[0])
    assert after.torch.module.classifier.out_features == 10  # type: ignore[union-attr]
    assert all(parameter.requires_grad for parameter in after.torch.module.parameters())


class FixedWidth(nn.Module):
    """A forward that counts on the 32 channels it was written for."""

    def __init__(self, *, rows: bool) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(32, 5)
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu().mean((2, 3))
        return self.head(x.view(-1, 32) if self.rows else x.view(len(x), 32))


@pytest.mark.parametrize("rows", [True, False])
def test_a_forward_of_fixed_width_is_told_how_to_change(rows: bool) -> None:
    network = FixedWidth(rows=rows).eval()
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 3, 8, 8)),))
    signature = learn_outputs(network, signature)
    with pytest.raises(StageError, match=r"write x\.flatten\(1\), or name the layers before it in keep"):
        prune_until(network, signature, PruneSettings(to_macs=0.5), 8, lambda m: False)


@pytest.mark.parametrize("task", ["anomaly", "segmentation", "classification"])
def test_taylor_takes_the_loss_of_the_task(task: str) -> None:
    """Unlabelled reconstruction, masks with ignored pixels, one logit for two classes."""
    images = torch.rand(200, 1, 8, 8)
    body = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 2 if task == "segmentation" else 1, 1)
    )
    network = nn.Sequential(*body, nn.Flatten(), nn.Linear(64, 1)) if task == "classification" else body
    masks = (images[:, 0] > 0.5).byte()
    masks[:, 0] = 255
    targets = {"anomaly": None, "segmentation": masks.numpy(), "classification": (masks[:, 4, 4] > 0).long().numpy()}
    data = Dataset({"input": images.numpy()}, targets=targets[task])
    recipe = parse_recipe("[data]\ncalibration = 100", KINDS)
    inputs = (TensorSpec(name="input", shape=("batch", 1, 8, 8)),)
    network.eval()
    signature = learn_outputs(network, Signature(inputs=inputs, task=task))  # type: ignore[arg-type]
    prepared = prepare(Request(network, ("generic-x86",), data=replace(data, targets=None), recipe=recipe, threads=1))
    state = replace(prepared.opened.state, signature=signature)
    parts = split(data, signature, calibration=100, validation=0.1, evaluation=0.1)
    context = replace(prepared.contexts[0], parts=parts)
    settings = PruneSettings(to_parameters=0.6, importance="taylor", granularity=8)
    STAGE.check(settings, state, context)
    assert STAGE.run(state, settings, context).notes["parameters_share"] <= 0.6


def test_taylor_without_targets_is_refused_before_any_work(state: object, context: Context) -> None:
    unlabelled = replace(context.parts.calibration, dataset=replace(context.parts.calibration.dataset, targets=None))
    without = replace(context, parts=replace(context.parts, calibration=unlabelled))
    with pytest.raises(InputError, match="needs labels"):
        STAGE.check(PruneSettings(to_macs=0.5, importance="taylor"), state, without)  # type: ignore[arg-type]


def test_a_latency_budget_is_met_against_the_network_timed_beside_it(
    state: object, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = []

    def time_files(files: dict[str, Path], *given: object, **options: object) -> object:
        sessions.append(list(files))
        return measured(files, *given, **options)

    measured, short = host.time_files, partial(host.interleave, warmup_s=0.02)
    monkeypatch.setattr(host, "interleave", lambda runs, **_: short(runs, blocks=6, block_ms=5.0))
    monkeypatch.setattr(host, "time_files", time_files)
    settings = PruneSettings(to_latency=0.9, granularity=8, steps=10)
    after = STAGE.run(state, settings, replace(context, workdir=tmp_path))  # type: ignore[arg-type]
    assert after.notes["latency_share"] <= 0.9
    assert sessions and all(files == ["before", "candidate"] for files in sessions)
    assert STAGE.depends_on(settings, context)["machine"] == [
        host.describe(host.this_machine()), host.this_machine().system, host.this_machine().cores,
    ]  # fmt: skip
    assert "machine" not in STAGE.depends_on(PruneSettings(to_macs=0.5), context)


def test_networks_of_as_many_parameters_are_timed_each(
    state: object, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Session:
        def comparison(self, *_: str) -> object:
            one = SimpleNamespace(p50_ms=1.0)
            return SimpleNamespace(speedup=float(len(timed)), baseline=one, candidate=one)

    timed: list[object] = []
    monkeypatch.setattr(host, "time_files", lambda files, *_, **__: timed.append(files) or Session())
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 1, 8, 8)),))
    networks = [nn.Conv2d(1, 2, size) for size in (3, (1, 9), (9, 1))]
    signature = signature.model_copy(update={"inputs": (TensorSpec(name="x", shape=("batch", 1, 12, 12)),)})
    latency = share_of(networks[0], signature, replace(context, workdir=tmp_path), limit=0.1)
    assert [latency(network) for network in (*networks, networks[1])] == [1.0, 1.0, 0.5, 1.0]


def test_a_network_within_the_budget_is_timed_for_longer_and_against_the_usual_time(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short sessions run on a machine that is fast by chance, and favour the candidate."""
    rounds: list[int] = []

    class Session:
        def comparison(self, *_: str) -> object:
            before = 4.0 if len(rounds) == 1 else 6.0
            speedup = 2.0 if rounds[-1] == 12 else 1.5
            candidate = SimpleNamespace(p50_ms=before / speedup)
            return SimpleNamespace(speedup=speedup, baseline=SimpleNamespace(p50_ms=before), candidate=candidate)

    monkeypatch.setattr(host, "time_files", lambda *_, **given: rounds.append(given["rounds"]) or Session())
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 1, 12, 12)),))
    whole, cut = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 2, 3)
    within = milliseconds_of(whole, signature, replace(context, workdir=tmp_path), limit=3.0)
    assert within(cut) == pytest.approx(5.0 / 1.5)  # 2 ms at first, and then of the median of 4 and 6 ms
    assert rounds == [12, 36] and within(cut) == pytest.approx(5.0 / 1.5) and rounds == [12, 36]
    beyond = milliseconds_of(whole, signature, replace(context, workdir=tmp_path), limit=1.0)
    assert beyond(cut) == pytest.approx(3.0) and rounds == [12, 36, 12]


@pytest.mark.slow
def test_a_fake_quantized_graph_is_pruned_and_prepared_again(example: Path) -> None:
    made = prepare(Request(example / "model.pt", ("raspberry-pi-5",), threads=1))
    state, context = made.opened.state, made.contexts[0]
    quantize = QuantizeSettings(simulate=True, calibrators=("min-max",), keep_float=("classifier",))
    simulated = QUANTIZE.run(state, quantize, context)
    pruned = STAGE.run(simulated, PruneSettings(to_macs=0.6, granularity=8), context)
    assert isinstance(pruned.form, PreparedForm) and isinstance(simulated.form, PreparedForm)
    assert pruned.form.simulation == simulated.form.simulation and len(pruned.form.edits) == 1
    assert count_macs(pruned.floating().torch.module, state.signature) <= 0.6 * count_macs(
        state.torch.module, state.signature
    )
    assert pruned.lineage == ("quantize", "prune") and pruned.notes["macs_share"] <= 0.6
    x = example_inputs(state.signature)["image"]
    with torch.no_grad():
        assert pruned.form.module(x).shape == (2, 10)
    assert STAGE.leaves(PruneSettings(to_macs=0.6), "prepared") == "prepared"
    assert STAGE.leaves(PruneSettings(to_macs=0.6), "torch") == "torch"
