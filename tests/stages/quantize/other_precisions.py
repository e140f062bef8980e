"""What the tests of weight-only, dynamic and half precision share: networks with linear layers, as a run begins with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekd.context import Context
from edgekd.data import Dataset
from edgekd.models.networks.gru import GruClassifier
from edgekd.models.networks.vit import ViT
from edgekd.recipe import StageSettings
from edgekd.request import Request, prepare
from edgekd.stages import STAGES
from edgekd.state import ModelState, OnnxForm

Begun = tuple[ModelState, Context]


def begun(model: nn.Module | Path, data: Dataset, target: str = "generic-x86") -> Begun:
    made = prepare(Request(model, (target,), data=data, threads=1))
    return made.opened.state, made.contexts[0]


def images() -> Dataset:
    random = np.random.default_rng(0)
    return Dataset(
        inputs={"x": random.normal(size=(120, 1, 16, 16)).astype(np.float32)},
        targets=random.integers(0, 10, 120),
        origin="noise",
        licence="MIT",
    )


def rows(size: int = 16) -> Dataset:
    random = np.random.default_rng(0)
    return Dataset(
        inputs={"x": random.normal(size=(120, size)).astype(np.float32)},
        targets=random.integers(0, 4, 120),
        origin="noise",
        licence="MIT",
    )


def vit() -> Begun:
    torch.manual_seed(0)
    return begun(ViT(16, 4, 64, 2, 2, 128, 10, 1).eval(), images())


def gru() -> Begun:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    data = Dataset(
        inputs={"x": random.normal(size=(120, 12, 16)).astype(np.float32)},
        targets=random.integers(0, 10, 120),
        origin="noise",
        licence="MIT",
    )
    return begun(GruClassifier(16, 32, 1, 10).eval(), data)


def graph_of(folder: Path, nodes: list[onnx.NodeProto], **weights: np.ndarray) -> Begun:
    """Return a graph from x (batch, 16) to y (batch, 4)."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s]) for n, s in (("x", 16), ("y", 4))]
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    path = folder / "given.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return begun(path, rows())


def after(start: Begun, settings: StageSettings, folder: Path) -> ModelState:
    folder.mkdir(exist_ok=True)
    made = STAGES[type(settings)].run(start[0], settings, replace(start[1], workdir=folder))
    assert isinstance(made.form, OnnxForm)
    return made


def file_of(state: ModelState) -> Path:
    assert isinstance(state.form, OnnxForm)
    return state.form.path
