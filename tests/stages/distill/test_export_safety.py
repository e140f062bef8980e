"""No projector, router, memory or policy reaches the exported graph; registering a method enrols it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgekd.data import Dataset
from edgekd.errors import StageError
from edgekd.losses import COMMITTEES, LOSSES, POLICIES, WEIGHTS, Setup
from edgekd.models.signature import Signature
from edgekd.stages.distill import STAGE
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.training.apart import check_apart, structure
from edgekd.training.objective import Objective

from .networks import CLASSES, SIZES, N, Net, alive, checked, distilled, random_inputs, start

SERVED_AS = {"logits": "vector", "values": "vector", "attention": "map"}


EQUAL = "bottleneck"  # of a teacher as wide as the student


def recipes() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return by name a shape and settings of a stage; together they use every method there is.

    An export takes long, so all losses of a shape train together, with the weights and the layer policies.
    """
    losses: dict[str, list[Any]] = {"map": [], "tokens": []}
    for kind in sorted(set(LOSSES) - {EQUAL}):
        example = LOSSES[kind].example()
        losses.setdefault(SERVED_AS.get(example.shape, example.shape), []).append(example)
    losses["map"] += [{"kind": "kl", "importance": WEIGHTS[kind].example()} for kind in sorted(WEIGHTS)]
    losses["tokens"] += [{"kind": "hint", "layers": POLICIES[kind].example()} for kind in sorted(POLICIES)]
    together = {f"losses-{shape}": (shape, {"losses": those}) for shape, those in losses.items()}
    committees = {
        f"committee-{kind}": ("vector", {"losses": ["kl"], "committee": COMMITTEES[kind].example()})
        for kind in sorted(COMMITTEES)
    }
    return together | committees | {"losses-equal": ("map", {"losses": [EQUAL]})}


@pytest.fixture
def memories(monkeypatch: pytest.MonkeyPatch) -> list[nn.ModuleDict]:
    """What lives only in training, of every objective that was prepared."""
    kept: list[nn.ModuleDict] = []
    prepare = Objective.prepare

    def watched(self: Objective, setup: Setup) -> None:
        prepare(self, setup)
        kept.append(self.memories)

    monkeypatch.setattr(Objective, "prepare", watched)
    return kept


def tensors(modules: nn.Module) -> list[Tensor]:
    return [*modules.parameters(), *modules.buffers()]


def data_for(shape: str) -> Dataset:
    """Return random samples with all that methods look for in a data set."""
    random = np.random.default_rng(1)
    return Dataset(
        {"x": random_inputs(*SIZES["map" if shape == "mask" else shape])},
        targets=random.integers(0, 2, (N, 6, 6)) if shape == "mask" else np.arange(N) % CLASSES,
        groups=np.arange(N) // 10,
        extras={
            "confidence": random.random(N, np.float32),
            "hyperedges": random.integers(0, 2, (N, 3)).astype(np.float32),
        },
    )


def described(network: nn.Module, signature: Signature, path: Path) -> dict[str, Any]:
    """Export a network; return its inputs, its outputs, and the size of every stored tensor."""
    write_onnx(network, signature, path)
    graph = onnx.load(str(path)).graph
    return {
        "inputs": [value.name for value in graph.input],
        "outputs": [value.name for value in graph.output],
        "axes": sum(tensor.data_type == onnx.TensorProto.INT64 for tensor in graph.initializer),
        "tensors": sorted(
            (tensor.name, tuple(tensor.dims))
            for tensor in graph.initializer
            if tensor.data_type != onnx.TensorProto.INT64
        ),
    }


@pytest.mark.parametrize(("shape", "settings"), [pytest.param(*one, id=name) for name, one in recipes().items()])
def test_the_export_holds_the_students_tensors_only(
    shape: str, settings: dict[str, Any], memories: list[nn.ModuleDict], tmp_path: Path
) -> None:
    classes = 1 if shape == "mask" else CLASSES
    teachers = alive(Net(shape, 8, classes, seed=1)) | alive(Net(shape, 8, classes, seed=2), "second")
    student = Net(shape, 8 if settings["losses"] == [EQUAL] else 6, classes)
    task = "segmentation" if shape == "mask" else "classification"
    state, context = start(student, data_for(shape), task, tmp_path, teachers=teachers)
    stage = checked(state, context, **settings)
    if not tensors(memories[-1]):
        pytest.skip("these methods keep nothing")
    before = described(state.torch.module, state.signature, tmp_path / "before.onnx")
    made = STAGE.run(state, stage, context)
    assert not torch.equal(made.torch.module.head.weight, student.head.weight)  # type: ignore[union-attr,arg-type]
    after = described(made.torch.module, made.signature, tmp_path / "after.onnx")
    assert after == before
    assert len(after["tensors"]) == len(tensors(student))
    assert sum(int(np.prod(size)) for _, size in after["tensors"]) == sum(one.numel() for one in tensors(student))


class Growing(Net):
    """A network that takes a layer in while it is trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Grow, and answer."""
        if self.training:
            self.projector = nn.Linear(2, 2)
        return super().forward(x)


def test_a_student_that_grows_in_training_is_refused(tmp_path: Path) -> None:
    state, context = start(Growing("vector", 6), data_for("vector"), "classification", tmp_path)
    with pytest.raises(StageError, match=r"made of: projector, projector\.bias, projector\.weight;"):
        distilled(state, context)


def test_a_memory_that_is_a_part_of_the_student_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stolen(self: Objective, setup: Setup) -> None:
        self.memories["loss0"] = self.student.head

    monkeypatch.setattr(Objective, "prepare", stolen)
    state, context = start(Net("vector", 6), data_for("vector"), "classification", tmp_path)
    with pytest.raises(StageError, match=r"kl \(loss0\) keeps head\.weight of the student"):
        distilled(state, context)


def test_a_hook_that_was_left_and_a_layer_that_was_swapped_are_found() -> None:
    network = Net("vector", 6)
    before = structure(network)
    check_apart(before, network, {"hint": nn.Linear(6, 8)})
    handle = network.tokens.register_forward_hook(lambda *given: None)
    with pytest.raises(StageError, match="made of: tokens;"):
        check_apart(before, network, {})
    handle.remove()
    network.visual = nn.Sigmoid()
    with pytest.raises(StageError, match="made of: visual;"):
        check_apart(before, network, {})
