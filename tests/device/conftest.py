"""A complete artifact with a small classifier, whose reference outputs are computed with numpy."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.device.manifest import FileEntry, Manifest, Preprocessing, SelfCheckSpec, write_manifest
from edgekd.device.pack import write_pyz
from edgekd.device.runtimes.session import TensorInfo
from edgekd.device.selfcheck import Samples, write_samples

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

CLASSES = 6
LABELS = ("ant", "bee", "cat", "dog", "eel", "fox")
_WEIGHT = np.random.default_rng(0).normal(size=(64, CLASSES)).astype(np.float32)


def reference(images: np.ndarray) -> np.ndarray:
    """Return the classifier's logits for (N, 1, 8, 8) float32 images."""
    return np.maximum(images.reshape(len(images), -1) @ _WEIGHT, 0.0)


def save_classifier(path: Path, batch: int | str = "batch") -> None:
    """Write `logits = relu(flatten(image) @ weight)` as ONNX."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
            helper.make_node("Relu", ["scores"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(_WEIGHT, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


MakeArtifact = Callable[..., Path]


@pytest.fixture
def make_artifact(tmp_path: Path) -> MakeArtifact:
    """Return a function that writes an artifact folder; manifest fields may be replaced by keyword."""

    def make(batch: int | str = "batch", outputs: np.ndarray | None = None, **changes: Any) -> Path:
        folder = tmp_path / "artifact"
        folder.mkdir()
        save_classifier(folder / "model.onnx", batch)
        images = np.random.default_rng(1).normal(size=(10, 1, 8, 8)).astype(np.float32)
        write_samples(
            folder / "samples.npz",
            Samples({"image": images}, {"logits": reference(images) if outputs is None else outputs}),
        )
        write_pyz(folder / "run.pyz")
        manifest = Manifest(
            edgekd="0.1.0",
            name="classifier",
            task="classification",
            labels=LABELS,
            target="generic-x86",
            runtime="onnxruntime",
            precision="float32",
            model_file="model.onnx",
            files={path.name: FileEntry.of(path) for path in sorted(folder.iterdir())},
            inputs=(TensorInfo("image", (batch, 1, 8, 8), "float32"),),
            outputs=(TensorInfo("logits", (batch, CLASSES), "float32"),),
            preprocessing=Preprocessing("NCHW", 1 / 255, (0.5,), (0.25,), inside_model=False),
            selfcheck=SelfCheckSpec("samples.npz", "synthetic", agreement=0.99, cosine=0.999),
            versions={"onnxruntime": ">=1.17"},
        )
        write_manifest(folder, dataclasses.replace(manifest, **changes))
        return folder

    return make


@pytest.fixture
def artifact(make_artifact: MakeArtifact) -> Path:
    """Return a sound artifact folder."""
    return make_artifact()
