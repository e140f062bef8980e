"""Nothing that stands in padded positions of token sequences reaches a method; single logits tell two classes apart."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses import COMMITTEES, LOSSES, WEIGHTS, Answer, Loss, Setup
from edgekd.models.signature import Signature, TensorSpec
from edgekd.training.batch import Batch
from edgekd.training.fabric import Together
from edgekd.training.objective import Moment, Objective, Work
from edgekd.training.phase import Phase

N, L, D, C = 4, 6, 8, 4


class Tagger(nn.Module):
    """Token sequences (N, L, D) to classes (N, L, C)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(D, D)
        self.head = nn.Linear(D, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)))


class Pooled(Tagger):
    """One answer a sequence (N, C), from its first token."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, 0])


def signature(task: str) -> Signature:
    return Signature(inputs=(TensorSpec(name="x", shape=("batch", L, D)),), task=task)  # type: ignore[arg-type]


def total(phase: Phase, task: str, student: nn.Module, batch: Batch, teachers: dict[str, Answer]) -> Tensor:
    """Return the total of a phase, with memories made from the same batch."""
    torch.manual_seed(0)
    objective = Objective(student, phase, signature(task), Together(), "sgd")
    with torch.no_grad():
        outputs, features = objective.taps.run(batch.inputs)
    classes = max(2, next(iter(outputs.values())).shape[-1])
    axis = -1 if task == "tokens" else 1
    objective.prepare(Setup(Answer(outputs, features), teachers, N, classes, batch.inputs, axis))
    torch.manual_seed(1)
    return objective(Work(batch, teachers, Moment(0.25, 1), teacher_valid=batch.valid))["total"]


def a_batch() -> Batch:
    valid = torch.ones(N, L, dtype=torch.bool)
    valid[:, 4:] = False
    valid[1, 2:] = False
    targets = torch.randint(0, C, (N, L)).where(valid, -1)
    extras = {"modalities": torch.ones(N, 2), "confidence": torch.rand(N)}
    return Batch(torch.arange(N), {"x": torch.randn(N, L, D)}, targets, valid, torch.arange(N), extras)


def teachers_for(loss: Loss | None, *shape: int) -> dict[str, Answer]:
    taps = loss.all_teacher_taps() if loss is not None else ()
    return {
        name: Answer({"output": torch.randn(*shape)}, {tap: torch.randn(*shape[:-1], 2 * D) for tap in taps})
        for name in ("one", "two")
    }


def changed(answer: Answer, valid: Tensor) -> Answer:
    """Return the answer with other values in the padded positions."""
    outputs, features = (
        {name: torch.where(valid[..., None], tensor, tensor + 7) for name, tensor in tensors.items()}
        for tensors in (answer.outputs, answer.features)
    )
    return Answer(outputs, features)


def fill(phase: Phase, loss: Loss | None) -> None:
    """Check that a phase's total does not depend on what is padded, or that the method refuses token sequences."""
    torch.manual_seed(3)
    batch, student = a_batch(), Tagger(C)
    assert batch.valid is not None
    teachers = teachers_for(loss, N, L, C)
    other = replace(batch, inputs={"x": torch.where(batch.valid[..., None], batch.inputs["x"], torch.randn(N, L, D))})
    try:
        first = total(phase, "tokens", student, batch, teachers)
    except InputError as error:
        assert len(str(error)) > 20
        return
    moved = {name: changed(answer, batch.valid) for name, answer in teachers.items()}
    assert torch.isfinite(first)
    torch.testing.assert_close(total(phase, "tokens", student, other, moved), first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_padded_positions_do_not_reach_a_loss(kind: str) -> None:
    loss = LOSSES[kind].example()
    taps = loss.student_taps()
    if any(tap != "penultimate" for tap in taps):
        pytest.skip("its example has taps of another network")
    fill(Phase(task=0, losses=(loss,)), loss)


@pytest.mark.parametrize("kind", sorted(WEIGHTS))
def test_padded_positions_do_not_reach_a_weight(kind: str) -> None:
    loss = LOSSES["kl"].model_validate({"importance": WEIGHTS[kind].example()})
    fill(Phase(task=0, losses=(loss,)), loss)


@pytest.mark.parametrize("kind", sorted(COMMITTEES))
def test_padded_positions_do_not_reach_a_committee(kind: str) -> None:
    loss = LOSSES["kl"].example()
    fill(Phase(task=0, losses=(loss,), committee=COMMITTEES[kind].example()), loss)


class Segmenter(nn.Module):
    """Images (N, D, H, W) to classes (N, C, H, W), every position by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(D, D, 1)
        self.head = nn.Conv2d(D, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)))


SIDE = 8


def fill_maps(phase: Phase, loss: Loss | None) -> None:
    """Check that a phase's total does not depend on what stands under the mask of a dense output, or that it is refused."""
    torch.manual_seed(3)
    valid = torch.ones(N, SIDE, SIDE, dtype=torch.bool)
    valid[:, 4:] = False
    valid[1, :, 2:] = False
    inputs = torch.randn(N, D, SIDE, SIDE)
    targets = torch.randint(0, C, (N, SIDE, SIDE)).where(valid, -1)
    extras = {"modalities": torch.ones(N, 2), "confidence": torch.rand(N)}
    batch = Batch(torch.arange(N), {"x": inputs}, targets, valid, torch.arange(N), extras)
    other = replace(batch, inputs={"x": torch.where(valid[:, None], inputs, torch.randn_like(inputs))})
    taps = loss.all_teacher_taps() if loss is not None else ()
    teachers = {
        name: Answer(
            {"output": torch.randn(N, C, SIDE, SIDE)},
            {tap: torch.randn(N, 2 * D, SIDE // 2, SIDE // 2) for tap in taps},
        )
        for name in ("one", "two")
    }
    half = valid[:, ::2, ::2]

    def moved(answer: Answer) -> Answer:
        outputs = {name: torch.where(valid[:, None], one, one + 7) for name, one in answer.outputs.items()}
        return Answer(
            outputs, {name: torch.where(half[:, None], one, one + 7) for name, one in answer.features.items()}
        )

    def of(batch: Batch, teachers: dict[str, Answer]) -> Tensor:
        objective = Objective(student, phase, maps, Together(), "sgd")
        with torch.no_grad():
            outputs, features = objective.taps.run(batch.inputs)
        torch.manual_seed(0)
        objective.prepare(Setup(Answer(outputs, features), teachers, N, C, batch.inputs, 1))
        torch.manual_seed(1)
        return objective(Work(batch, teachers, Moment(0.25, 1), teacher_valid=batch.valid))["total"]

    student = Segmenter()
    maps = Signature(inputs=(TensorSpec(name="x", shape=("batch", D, SIDE, SIDE)),), task="segmentation")
    try:
        first = of(batch, teachers)
    except InputError as error:
        assert len(str(error)) > 20
        return
    assert torch.isfinite(first)
    changed = {name: moved(answer) for name, answer in teachers.items()}
    torch.testing.assert_close(of(other, changed), first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_what_a_dense_mask_hides_does_not_reach_a_loss(kind: str) -> None:
    loss = LOSSES[kind].example()
    if any(tap != "penultimate" for tap in loss.student_taps()):
        pytest.skip("its example has taps of another network")
    fill_maps(Phase(task=0, losses=(loss,)), loss)


@pytest.mark.parametrize("kind", sorted(WEIGHTS))
def test_what_a_dense_mask_hides_does_not_reach_a_weight(kind: str) -> None:
    loss = LOSSES["kl"].model_validate({"importance": WEIGHTS[kind].example()})
    fill_maps(Phase(task=0, losses=(loss,)), loss)


@pytest.mark.parametrize("kind", sorted(COMMITTEES))
def test_what_a_dense_mask_hides_does_not_reach_a_committee(kind: str) -> None:
    loss = LOSSES["kl"].example()
    fill_maps(Phase(task=0, losses=(loss,), committee=COMMITTEES[kind].example()), loss)


ONE_LOGIT = {"bce"}  # its equation is of each logit by itself


@pytest.mark.parametrize("kind", sorted({kind for kind, loss in LOSSES.items() if loss.shape == "logits"} - ONE_LOGIT))
def test_a_single_logit_is_two_classes(kind: str) -> None:
    """The loss of a logit z is that of the logits 0 and z, or the method refuses two classes."""
    torch.manual_seed(5)
    loss = LOSSES[kind].example()
    student = Pooled(1)
    batch = replace(a_batch(), targets=torch.tensor([0, 1, 1, 0]), valid=None)
    teachers = teachers_for(loss, N, 1)
    phase = Phase(task=0, losses=(loss,))
    try:
        single = total(phase, "classification", student, batch, teachers)
    except InputError:
        return
    double = Pooled(2)
    with torch.no_grad():
        double.body.load_state_dict(student.body.state_dict())
        for mine, yours in ((double.head.weight, student.head.weight), (double.head.bias, student.head.bias)):
            mine.zero_()
            mine[1:] = yours
    pairs = {
        name: Answer({"output": torch.cat([torch.zeros(N, 1), answer.output()], 1)}, answer.features)
        for name, answer in teachers.items()
    }
    torch.testing.assert_close(single, total(phase, "classification", double, batch, pairs))
