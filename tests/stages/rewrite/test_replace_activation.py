import re
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.edits.activations import ACTIVATIONS
from edgekd.models.network import learn_outputs
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.rewrite.kinds.replace_activation import OPERATORS, nearest_activation

from .helpers import begin, elsewhere, outputs, rewritten, settings, stored


class Active(nn.Module):
    """Every activation that may be replaced and its convolution."""

    def __init__(self, *activations: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*(part for one in activations for part in (nn.Conv2d(3, 3, 1), one)))
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean((2, 3)))


class Every(nn.Module):
    """All activations of the table beside each other."""

    def __init__(self) -> None:
        super().__init__()
        self.every = nn.ModuleDict({name: getattr(nn, name)() for name in OPERATORS})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: layer(x) for name, layer in self.every.items()}


def test_the_table_is_what_the_exporter_writes(tmp_path: Path) -> None:
    network = Every().eval()
    signature = learn_outputs(network, Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),)))
    write_onnx(network, signature, tmp_path / "every.onnx")
    makers = {name: node for node in onnx.load(str(tmp_path / "every.onnx")).graph.node for name in node.output}

    def operators(value: str) -> set[str]:
        node = makers.get(value)
        return set() if node is None else {node.op_type}.union(*map(operators, node.input))

    assert {name: operators(name) for name in OPERATORS} == OPERATORS


@pytest.mark.parametrize(
    ("activation", "nearest"), [("SiLU", "Hardswish"), ("GELU", "SiLU"), ("Mish", "SiLU"), ("ReLU6", "ReLU")]
)
def test_the_nearest_in_mean_square(activation: str, nearest: str) -> None:
    usable = tuple(name for name in ACTIVATIONS if name not in (activation, "GELU"))
    assert nearest_activation(getattr(nn, activation)(), usable) == nearest


def test_the_target_s_operators_choose_and_what_it_runs_stays(tmp_path: Path) -> None:
    state, context = begin(
        Active(nn.Mish(), nn.ReLU(), nn.GELU(approximate="tanh")), tmp_path, (3, 4, 4), target="imx500"
    )
    after = rewritten(state, context, "replace-activation")
    layers: Any = after.torch.module.get_submodule("layers")
    assert [type(layers[number]) for number in (1, 3, 5)] == [nn.SiLU, nn.ReLU, nn.GELU]
    assert layers[5].approximate == "tanh"
    assert torch.equal(outputs(stored(after, tmp_path / "kept")), outputs(after))
    few = rewritten(state, elsewhere(context, operators=("Relu", "Conv")), "replace-activation")
    layers = few.torch.module.get_submodule("layers")
    assert [type(layers[number]) for number in (1, 3, 5)] == [nn.ReLU] * 3
    (note,) = few.notes["rewrites"]
    assert note["about"] == "2 layers: GELU by ReLU, Mish by ReLU; distill to recover"
    assert note["relative_difference"] > 1e-3 and set(note["validation"]) == {"metric", "before", "after"}
    assert "latency" not in note  # the target cannot run the other one at all


def test_an_activation_that_the_target_runs_stays_and_says_so(tmp_path: Path) -> None:
    state, context = begin(Active(nn.SiLU(), nn.Hardswish()), tmp_path, (3, 4, 4), target="imx500")
    after = rewritten(state, context, "replace-activation")
    assert after.torch.edits == ()
    assert after.notes["rewrites"][0]["about"] == f"{context.target.title} runs Hardswish, SiLU already"


def test_a_mapping_is_obeyed(tmp_path: Path) -> None:
    state, context = begin(Active(nn.SiLU(), nn.GELU()), tmp_path, (3, 4, 4))
    after = rewritten(state, context, {"kind": "replace-activation", "mapping": {"SiLU": "Hardswish"}})
    layers: Any = after.torch.module.get_submodule("layers")
    assert [type(layers[number]) for number in (1, 3)] == [nn.Hardswish, nn.GELU]
    nothing = rewritten(state, context, {"kind": "replace-activation", "mapping": {"ELU": "ReLU"}})
    assert nothing.notes["rewrites"][0]["about"] == "the network has GELU, SiLU only"


def test_no_operators_stand_in(tmp_path: Path) -> None:
    state, context = begin(Active(nn.SiLU()), tmp_path, (3, 4, 4))
    with pytest.raises(
        InputError,
        match=re.escape("lists no operators that it is limited to; give a mapping, for example mapping = { SiLU"),
    ):
        rewritten(state, context, "replace-activation")
    with pytest.raises(InputError, match="no activation that can stand in for SiLU"):
        rewritten(state, elsewhere(context, operators=("Conv",)), "replace-activation")


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"Swish": "ReLU"}, "Swish is none of the activations"),
        ({"SiLU": "Swish"}, "Swish cannot stand in for SiLU"),
        ({"SiLU": "SiLU"}, "SiLU stands for itself"),
    ],
)
def test_wrong_mappings(mapping: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings({"kind": "replace-activation", "mapping": mapping})
