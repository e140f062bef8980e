"""Small steps of every shape that losses compare, for the tests that hold for every method."""

from typing import Any

import torch
from torch import Tensor

from edgekd.losses import Answer, Loss, Setup, Step

N, C = 3, 4
SIZES = {"vector": (N, C), "map": (N, C, 6, 6), "tokens": (N, 5, C), "series": (N, C, 16), "attention": (N, 2, 5, 5)}


def random(*size: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return scale * torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def answers(loss: Any, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Answer, Answer]:
    """Return random answers of student and teacher with everything that a method may look at."""
    shape = getattr(loss, "shape", "logits")
    size = (N, 1, 6, 6) if shape == "mask" else (N, C)
    feature = SIZES.get(shape, (N, C))
    made = []
    for offset, taps in ((0, loss.student_taps()), (50, loss.teacher_taps())):
        outputs = {"output": random(*size, seed=seed + offset, scale=scale, dtype=dtype)}
        features = {
            tap: random(*feature, seed=seed + offset + 1 + number, scale=scale, dtype=dtype)
            for number, tap in enumerate(taps)
        }
        made.append(Answer(outputs, features))
    return made[0], made[1]


def make_step(student: Answer, teacher: Answer, shape: str = "logits", **changes: Any) -> Step:
    """Return a step with labels, sample ids, groups and extras."""
    targets = (
        torch.randint(0, 2, (N, 6, 6), generator=torch.Generator().manual_seed(1))
        if shape == "mask"
        else torch.tensor([0, 2, 1])
    )
    fields = {
        "student": student,
        "teachers": {"teacher": teacher},
        "teacher": teacher,
        "targets": targets,
        "sample_ids": torch.arange(N),
        "groups": torch.tensor([0, 1, 2]),
        "extras": {"confidence": torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)},
        "generator": torch.Generator().manual_seed(0),
        "progress": 0.25,
        "epoch": 1,
    }
    return Step(**{**fields, **changes})


def make_setup(student: Answer, teacher: Answer) -> Setup:
    return Setup(student, {"teacher": teacher}, samples=N, classes=C)


def memory_of(loss: Loss, student: Answer, teacher: Answer) -> Any:
    torch.manual_seed(0)
    memory = loss.prepare(make_setup(student, teacher))
    return None if memory is None else memory.double()


def leaves(answer: Answer) -> tuple[Answer, list[Tensor]]:
    """Return the answer with tensors that gather gradients, and these tensors."""
    outputs = {name: tensor.detach().clone().requires_grad_() for name, tensor in answer.outputs.items()}
    features = {name: tensor.detach().clone().requires_grad_() for name, tensor in answer.features.items()}
    return Answer(outputs, features), [*outputs.values(), *features.values()]
