import math

import pytest
import torch
from torch.nn import functional

from edgekd.losses import Answer, Setup, Step
from edgekd.losses.feature.crd import Crd, CrdMemory, noise_contrast


def unit(*size: int) -> torch.Tensor:
    return functional.normalize(torch.randn(size, dtype=torch.float64), dim=-1)


def test_it_is_the_sum_of_log_odds_of_the_paper() -> None:
    anchor, positive, negatives = unit(2, 8), unit(2, 8), unit(5, 8)
    other = torch.tensor([[True, True, False, True, True], [True] * 5])
    samples, t = 40, 0.2
    value = noise_contrast(anchor, positive, negatives, other, t)
    for i in range(2):
        count = int(other[i].sum())
        z = samples * math.exp(1 / (2 * 8 * t**2))

        def h(score: torch.Tensor, z: float = z, count: int = count) -> torch.Tensor:
            q = (score / t).exp() / z
            return q / (q + count / samples)

        expected = -h(anchor[i] @ positive[i]).log()
        for k in range(5):
            if other[i, k]:
                expected = expected - (1 - h(anchor[i] @ negatives[k])).log()
        torch.testing.assert_close(value[i], expected)


def test_a_pair_that_agrees_costs_less() -> None:
    anchor, negatives, other = unit(3, 16), unit(6, 16), torch.ones(3, 6, dtype=torch.bool)
    near, far = (noise_contrast(anchor, side, negatives, other, 0.1) for side in (anchor, -anchor))
    assert (near < far).all()


def test_random_directions_start_near_one_for_the_negatives() -> None:
    torch.manual_seed(0)
    anchor, negatives = unit(8, 128), unit(4096, 128)
    value = noise_contrast(anchor, anchor, negatives, torch.ones(8, 4096, dtype=torch.bool), 0.07)
    assert (value.mean() - 1).abs() < 0.15


def _step(student: torch.Tensor, teacher: torch.Tensor, ids: list[int], **fields: object) -> tuple[Step, Setup]:
    mine, yours = Answer({}, {"penultimate": student}), Answer({}, {"penultimate": teacher})
    step = Step(mine, {"t": yours}, yours, sample_ids=torch.tensor(ids), **fields)  # type: ignore[arg-type]
    return step, Setup(mine, {"t": yours}, samples=20)


def _own(memory: torch.nn.Module | None) -> CrdMemory:
    assert memory is not None
    (own,) = memory.pairs.values()  # type: ignore[operator, union-attr]
    assert isinstance(own, CrdMemory)
    return own


def test_the_memory_moves_only_the_rows_seen_and_keeps_them_unit() -> None:
    loss = Crd(width=8, momentum=0.0)
    step, setup = _step(torch.randn(2, 4), torch.randn(2, 6), [3, 17])
    memory = loss.prepare(setup)
    own = _own(memory)
    before = own.student_bank.clone()
    loss(step, memory)
    moved = (own.student_bank != before).any(1).nonzero().flatten()
    assert moved.tolist() == [3, 17]
    torch.testing.assert_close(own.student_bank.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(
        own.student_bank[[3, 17]], functional.normalize(own.student(step.student.features["penultimate"]))
    )


def test_evaluation_leaves_the_memory_alone() -> None:
    loss = Crd(width=8)
    step, setup = _step(torch.randn(2, 4), torch.randn(2, 6), [3, 17])
    memory = loss.prepare(setup)
    assert memory is not None
    before = _own(memory).teacher_bank.clone()
    loss(step, memory.eval())
    assert torch.equal(_own(memory).teacher_bank, before)


def test_all_processes_write_the_same_rows_but_those_left_out() -> None:
    loss = Crd(width=8, momentum=0.0)
    step, setup = _step(
        torch.randn(2, 4), torch.randn(2, 6), [3, 17], valid=torch.tensor([True, False]),
        gather=lambda tensor: torch.cat([tensor, tensor + 2 if tensor.dtype == torch.int64 else tensor]),
    )  # fmt: skip
    memory = loss.prepare(setup)
    own = _own(memory)
    before = own.teacher_bank.clone()
    loss(step, memory)
    assert (own.teacher_bank != before).any(1).nonzero().flatten().tolist() == [3, 5]


def test_negatives_are_drawn_from_the_step_s_generator_and_never_the_sample_itself() -> None:
    loss = Crd(width=8, negatives=7)
    values = []
    for seed in (1, 1, 2):
        step, setup = _step(torch.ones(2, 4), torch.ones(2, 6), [3, 17], generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(0)
        values.append(loss(step, loss.prepare(setup)))
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
    single, setup = _step(torch.randn(1, 4), torch.randn(1, 6), [0])
    lone = Setup(setup.student, setup.teachers, samples=1)
    memory = loss.prepare(lone)
    own = _own(memory)
    mine = functional.normalize(own.student(single.student.features["penultimate"]))
    yours = functional.normalize(own.teacher(single.the_teacher.features["penultimate"]))
    expected = 2 * functional.softplus(1 / (2 * 8 * 0.07**2) - (mine * yours).sum(1) / 0.07)
    torch.testing.assert_close(loss(single, memory), expected)


@pytest.mark.parametrize("field", [{"temperature": 0}, {"negatives": 0}, {"momentum": 1}])
def test_bad_settings_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        Crd(**field)  # type: ignore[arg-type]
