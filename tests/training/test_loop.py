import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.context import Context
from edgekd.data import Dataset, Part
from edgekd.errors import StageError
from edgekd.models.networks.vit import ViT
from edgekd.models.signature import Signature, TensorSpec
from edgekd.request import Request, prepare
from edgekd.training.augment import augment
from edgekd.training.loop import TrainingSettings, batch_size, fresh, train, training_part
from edgekd.training.objective import Objective

SETTINGS = TrainingSettings(epochs=1, batch_size=64, precision="float32")
OBJECTIVE = Objective("classification", 0.7, 4.0)


@pytest.fixture
def context(example: Path) -> Context:
    return prepare(Request(example / "model.pt", ("generic-x86",), threads=1)).contexts[0]


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def test_same_seed_same_weights_other_seed_other_weights(context: Context, trained: nn.Module) -> None:
    def run(seed: int) -> torch.Tensor:
        student = copy.deepcopy(trained)
        part = context.parts.train
        train(
            student, copy.deepcopy(trained), part, OBJECTIVE, SETTINGS, ("shift",), replace(context, seed=seed), "test"
        )
        return weights(student)

    first = run(0)
    assert torch.equal(first, run(0))
    assert not torch.equal(first, run(1))


def test_a_student_gets_closer_to_its_teacher(context: Context, trained: nn.Module) -> None:
    student = fresh(trained)
    losses = train(
        student, copy.deepcopy(trained), context.parts.train, Objective("classification", 1.0, 4.0),
        SETTINGS.model_copy(update={"epochs": 3}), (), context, "test",
    )  # fmt: skip
    assert losses[-1] < 0.7 * losses[0]


def test_the_teacher_stays_as_it_was(context: Context, trained: nn.Module) -> None:
    teacher = copy.deepcopy(trained)
    before = weights(teacher)
    train(copy.deepcopy(trained), teacher, context.parts.train, OBJECTIVE, SETTINGS, (), context, "test")
    assert torch.equal(before, weights(teacher))


def test_the_network_comes_back_on_the_cpu_in_eval_mode(context: Context, trained: nn.Module) -> None:
    student = copy.deepcopy(trained)
    train(student, None, context.parts.train, Objective("classification", 0.0, 4.0), SETTINGS, (), context, "test")
    assert not student.training and next(student.parameters()).is_contiguous()


def test_divergence_is_a_message(context: Context, trained: nn.Module) -> None:
    wild = SETTINGS.model_copy(update={"learning_rate": 1e9, "clip_gradient": None})
    with pytest.raises(StageError, match="lower learning_rate"):
        train(
            copy.deepcopy(trained),
            None,
            context.parts.train,
            Objective("classification", 0.0, 1.0),
            wild,
            (),
            context,
            "t",
        )


def test_one_sample_cannot_be_trained_on(context: Context, trained: nn.Module) -> None:
    with pytest.raises(StageError, match="1 training samples are too few"):
        train(copy.deepcopy(trained), None, context.parts.train.take(1), OBJECTIVE, SETTINGS, (), context, "test")


def test_fresh_weights_differ_and_keep_their_shapes(trained: nn.Module) -> None:
    other = fresh(trained)
    assert not torch.equal(weights(trained), weights(other))
    assert [p.shape for p in trained.parameters()] == [p.shape for p in other.parameters()]


def test_augmentations_keep_shape_and_values() -> None:
    images = torch.rand(16, 3, 14, 28)
    generator = torch.Generator().manual_seed(0)
    flipped = augment(images, ("horizontal-flip",), generator)
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all() and same.any() and mirrored.any()
    moved = [augment(images, ("shift",), generator) for _ in range(8)]
    assert all(batch.shape == images.shape for batch in moved)
    assert any(not torch.equal(batch, images) for batch in moved)
    assert torch.equal(augment(images, (), generator), images)


@pytest.mark.parametrize(
    ("task", "output", "targets"),
    [
        ("classification", torch.randn(4, 3), torch.tensor([0, 1, 2, 0])),
        ("segmentation", torch.randn(4, 3, 5, 5), torch.randint(-1, 3, (4, 5, 5))),
        ("segmentation", torch.randn(4, 1, 5, 5), torch.randint(0, 2, (4, 5, 5))),
        ("regression", torch.randn(4, 1), torch.randn(4)),
        ("anomaly", torch.randn(4, 6), None),
    ],
)
def test_every_task_has_a_loss_that_vanishes_for_the_teacher_itself(
    task: str, output: torch.Tensor, targets: torch.Tensor | None
) -> None:
    inputs = {"x": torch.randn(4, 6)}
    whole = Objective(task, 1.0, 2.0)({"output": output}, {"output": output.clone()}, targets, inputs)  # type: ignore[arg-type]
    assert whole.abs() < 1e-6
    leaf = output.clone().requires_grad_()
    mixed = Objective(task, 0.5, 2.0)({"output": leaf}, {"output": output + 1.5 * output}, targets, inputs)  # type: ignore[arg-type]
    mixed.backward()
    assert torch.isfinite(mixed) and mixed > 0 and leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_several_outputs_are_all_distilled() -> None:
    student = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}
    teacher = {"a": torch.zeros(2, 3), "b": torch.tensor([[9.0, 0, 0], [0, 9.0, 0]])}
    assert Objective("classification", 1.0, 1.0)(student, teacher, None, {}) > 0.1


def test_unlabelled_data_suffice_to_distill(trained: nn.Module, fashion: Dataset) -> None:
    images = {"image": fashion.inputs["image"]}
    unlabelled = Dataset(inputs=images)
    prepared = prepare(Request(trained, ("generic-x86",), data=unlabelled, threads=1))
    context = prepared.contexts[0]
    assert context.metric.name == "agreement" and context.parts.train.targets is None
    losses = train(
        fresh(trained),
        copy.deepcopy(trained),
        context.parts.train.take(128),
        Objective("classification", 1.0, 4.0),
        SETTINGS,
        (),
        context,
        "t",
    )
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("steps", range(1, 7))
def test_a_handful_of_steps_is_enough(context: Context, trained: nn.Module, steps: int) -> None:
    student = copy.deepcopy(trained)
    part = context.parts.train.take(16 * steps)
    settings = SETTINGS.model_copy(update={"batch_size": 16})
    train(student, None, part, Objective("classification", 0.0, 1.0), settings, (), context, "test")
    assert not torch.equal(weights(student), weights(trained)) and torch.isfinite(weights(student)).all()


def test_momentum_counts(context: Context, trained: nn.Module) -> None:
    made = []
    for momentum in (0.5, 0.9):
        student = copy.deepcopy(trained)
        settings = SETTINGS.model_copy(update={"momentum": momentum})
        train(student, None, context.parts.train, Objective("classification", 0.0, 1.0), settings, (), context, "test")
        made.append(weights(student))
    assert not torch.equal(*made)


class Plain(nn.Module):
    """Parameters that no layer of torch initializes, or only under the name `_reset_parameters`."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.position = nn.Parameter(torch.zeros(1, 5, 8))
        self.scale, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 3)


@pytest.mark.parametrize("network", [Plain(), ViT()], ids=["plain", "vit"])
def test_from_scratch_keeps_no_trained_tensor(network: nn.Module) -> None:
    network = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(7)
    torch.manual_seed(0)
    for name, tensor in fresh(network).state_dict().items():
        assert torch.isfinite(tensor).all() and not (tensor == 7).any(), name
        if tensor.ndim > 1:
            assert 0 < tensor.std() < 1, name


def test_only_normal_samples_train_a_detector_of_anomalies() -> None:
    targets = np.arange(20) % 2
    data = Dataset({"x": np.zeros((20, 4), np.float32)}, targets=targets)
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),), task="anomaly")
    part = Part(data, np.arange(20), signature)
    assert training_part(part).indices.tolist() == list(range(0, 20, 2))
    assert training_part(replace(part, dataset=replace(data, targets=None))).indices.tolist() == list(range(20))
    assert (
        training_part(replace(part, signature=signature.model_copy(update={"task": "regression"}))).indices.size == 20
    )


@pytest.mark.parametrize(("samples", "size"), [(1000, 64), (256, 64), (100, 25), (9, 2), (3, 2)])
def test_few_samples_are_trained_in_smaller_batches(samples: int, size: int) -> None:
    assert batch_size(SETTINGS, samples) == size
