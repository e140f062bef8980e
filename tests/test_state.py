import copy
import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from edgekd.errors import StageError
from edgekd.models.edits import prune_edit
from edgekd.models.fake_quantization import Simulation, prepare_graph, rounded_weights, rounders, set_range
from edgekd.models.network import learn_outputs
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.prune.pruner import prune_until
from edgekd.stages.prune.settings import PruneSettings
from edgekd.state import Base, ModelState, OnnxForm, PreparedForm, TorchForm, load_state, save_state
from edgekd.target import QuantizationScheme

SIGNATURE = Signature(inputs=(TensorSpec(name="image", shape=("batch", 1, 28, 28)),))


def pruned_state(network: nn.Module) -> ModelState:
    signature = learn_outputs(network, SIGNATURE)
    base = Base(lambda: copy.deepcopy(network), "abc")
    module = copy.deepcopy(network)
    count = sum(p.numel() for p in module.parameters())
    history = prune_until(
        module,
        signature,
        PruneSettings(to_parameters=0.6),
        8,
        lambda m: sum(p.numel() for p in m.parameters()) < 0.6 * count,
    )
    assert history
    for parameter in module.parameters():
        nn.init.normal_(parameter)  # weights differ from the base's
    return ModelState(signature, TorchForm(base, module.eval(), (prune_edit(history),)), ("prune",), {"a": 1})


def test_a_pruned_network_comes_back_to_the_bit(network: nn.Module, tmp_path: Path) -> None:
    state = pruned_state(network)
    save_state(state, tmp_path)
    again = load_state(tmp_path, state.torch.base)
    x = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(again.torch.module(x), state.torch.module(x))
    assert again.lineage == ("prune",) and again.notes == {"a": 1} and again.signature == state.signature


def test_nothing_is_pickled(network: nn.Module, tmp_path: Path) -> None:
    save_state(pruned_state(network), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "weights.safetensors"]


def test_two_saves_have_the_same_bytes(network: nn.Module, tmp_path: Path) -> None:
    state = pruned_state(network)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_state(state, tmp_path / name)
    for file in ("state.json", "weights.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_changed_file_is_noticed(network: nn.Module, tmp_path: Path) -> None:
    state = pruned_state(network)
    save_state(state, tmp_path)
    weights = bytearray((tmp_path / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(weights)
    with pytest.raises(StageError, match="was changed: weights"):
        load_state(tmp_path, state.torch.base)


def test_another_base_is_refused(network: nn.Module, tmp_path: Path) -> None:
    state = pruned_state(network)
    save_state(state, tmp_path)
    with pytest.raises(StageError, match="another network"):
        load_state(tmp_path, Base(state.torch.base.build, "other"))


@pytest.mark.parametrize("content", ["", "{", "{}", '{"files": {"gone": "x"}}'])
def test_a_damaged_state_is_an_error_of_the_stage(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(StageError, match="cannot read"):
        load_state(tmp_path, None)


def test_an_onnx_state_keeps_its_file(tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "tiny", value[:1], value[1:])
    onnx.save(onnx.helper.make_model(graph), str(source))
    folder = tmp_path / "stage"
    folder.mkdir()
    save_state(ModelState(SIGNATURE, OnnxForm(source, "int8")), folder)
    again = load_state(folder, None)
    assert again.form == OnnxForm(folder / "model.onnx", "int8")
    assert json.loads((folder / "state.json").read_text())["form"] == "onnx"


def prepared_state(network: nn.Module) -> ModelState:
    """Return a pruned network as a fake-quantized graph whose ranges are set and whose weights have moved since."""
    state = pruned_state(network)
    simulation = Simulation(scheme=QuantizationScheme(), keep_float=("classifier",), least_channels=4)
    graph = prepare_graph(state.torch.module, state.signature, simulation)
    weights = rounded_weights(graph)
    for number, (name, rounder) in enumerate(rounders(graph).items()):
        rows = weights[name].detach().flatten(1) if name in weights else torch.tensor([-1.0 - number, 5.0 + number])
        set_range(rounder, *torch.aminmax(rows, dim=-1))
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.mul_(1.01)
    return state.after("quantize", PreparedForm(state.torch.base, graph, simulation, state.torch.edits), {"b": 2})


def test_a_fake_quantized_graph_comes_back_to_the_bit(network: nn.Module, tmp_path: Path) -> None:
    state = prepared_state(network)
    assert isinstance(state.form, PreparedForm)
    save_state(replace(state, form=copy.deepcopy(state.form)), tmp_path)  # a stage trains a copy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "weights.safetensors"]
    again = load_state(tmp_path, state.form.base)
    assert isinstance(again.form, PreparedForm)
    assert again.form.simulation == state.form.simulation and again.form.edits == state.form.edits
    kept = state.form.module.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in again.form.module.state_dict().items())
    x = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        outputs = state.form.module(x)
        assert torch.equal(again.form.module(x), outputs)
        for rounder in rounders(again.form.module).values():
            rounder.disable_fake_quant()
        assert not torch.equal(again.form.module(x), outputs)  # it did round
    assert again.lineage == ("prune", "quantize") and again.notes == {"b": 2}
    with pytest.raises(StageError, match="needs a torch network, not prepared"):
        _ = again.torch


def test_a_copy_of_a_fake_quantized_graph_is_one_of_its_own(network: nn.Module) -> None:
    form = prepared_state(network).form
    assert isinstance(form, PreparedForm)
    other, x = copy.deepcopy(form), torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        outputs = form.module(x)
        assert torch.equal(other.module(x), outputs)
        for parameter in other.module.parameters():
            parameter.zero_()
        assert torch.equal(form.module(x), outputs)


def test_a_fake_quantized_graph_gives_its_weights_back(network: nn.Module) -> None:
    state = prepared_state(network)
    floating = state.floating()
    weights = state.form.module.state_dict()  # type: ignore[union-attr]
    own = floating.torch.module.state_dict()
    copied = [name for name, value in own.items() if value.is_floating_point()]
    assert len(copied) > 30 and all(torch.equal(own[name], weights[name]) for name in copied)
    assert floating.torch.edits == state.form.edits and not floating.torch.module.training  # type: ignore[union-attr]
    assert floating.lineage == state.lineage and floating.floating() == floating


def test_a_fake_quantized_graph_of_another_base_is_refused(network: nn.Module, tmp_path: Path) -> None:
    state = prepared_state(network)
    save_state(state, tmp_path)
    with pytest.raises(StageError, match="another network"):
        load_state(tmp_path, Base(lambda: network, "other"))
