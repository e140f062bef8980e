"""A small part of random data, and a teacher that counts what it is asked."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgekd.data import Dataset, Part
from edgekd.losses.step import Answer
from edgekd.models.signature import Signature, TensorSpec
from edgekd.teachers.teacher import Teacher

SAMPLES, WIDTH, CLASSES = 40, 6, 12
SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", WIDTH)),))


def make_part(samples: int = SAMPLES, seed: int = 0) -> Part:
    inputs = np.random.default_rng(seed).normal(size=(samples, WIDTH)).astype(np.float32)
    return Part(Dataset({"x": inputs}), np.random.default_rng(1).permutation(samples), SIGNATURE)


def batch_of(part: Part, ids: list[int]) -> tuple[dict[str, Tensor], Tensor]:
    return {"x": torch.from_numpy(part.inputs(np.array(ids, np.intp))["x"])}, torch.tensor(ids, dtype=torch.int64)


class Network(Teacher):
    """A linear network with one hidden tap."""

    live_features = True  # type: ignore[assignment]

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32, classes: int = CLASSES) -> None:
        torch.manual_seed(seed)
        self.hidden, self.head = nn.Linear(WIDTH, 8), nn.Linear(8, classes)
        self.name, self.dtype, self.seed = f"network{seed}", dtype, seed
        self.licence, self.source = "MIT", "a test"
        self.batches: list[int] = []

    @property
    def identity(self) -> str:
        return f"network-{self.seed}-{self.dtype}"

    @torch.no_grad()
    def answer(
        self,
        inputs: Mapping[str, Tensor],
        *,
        sample_ids: Tensor | None,
        taps: tuple[str, ...] = (),
        outputs_wanted: bool = True,
    ) -> Answer:
        self.batches.append(len(inputs["x"]))
        hidden = self.hidden(inputs["x"]).tanh()
        outputs = {"logits": self.head(hidden).to(self.dtype), "mask": hidden > 0} if outputs_wanted else {}
        return Answer(outputs, {tap: hidden.to(self.dtype) for tap in taps})


def save_onnx(path: Path, batch: int | str = "batch") -> np.ndarray:
    """Write `logits = x @ weight`; return the weight."""
    weight = np.random.default_rng(2).normal(size=(WIDTH, CLASSES)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, WIDTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return weight
