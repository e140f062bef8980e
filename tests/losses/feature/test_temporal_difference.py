import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.feature.temporal_difference import TemporalDifference, temporal_difference


def test_it_compares_what_changes() -> None:
    student, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    mine, yours = (side[..., 1:] - side[..., :-1] for side in (student, teacher))
    torch.testing.assert_close(temporal_difference(student, teacher), (mine - yours).pow(2).mean((1, 2)))


def test_an_offset_that_stays_changes_nothing() -> None:
    teacher = torch.randn(2, 3, 5, dtype=torch.float64)
    assert temporal_difference(teacher + torch.randn(2, 3, 1), teacher).max() < 1e-12


def _step(student: torch.Tensor, teacher: torch.Tensor, **fields: object) -> Step:
    mine, yours = Answer({}, {"penultimate": student}), Answer({}, {"penultimate": teacher})
    return Step(mine, {"t": yours}, yours, **fields)  # type: ignore[arg-type]


def test_clips_have_time_second() -> None:
    student, teacher = torch.randn(2, 4, 3, 5, 5), torch.randn(2, 4, 3, 5, 5)
    loss = TemporalDifference(along="clip")
    step = _step(student, teacher)
    memory = loss.prepare(Setup(step.student, step.teachers, 2))
    torch.testing.assert_close(loss(step, memory), temporal_difference(student.movedim(1, -1), teacher.movedim(1, -1)))


def test_samples_are_compared_with_the_one_before_wherever_it_lies() -> None:
    student, teacher = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
    value = TemporalDifference(along="samples")(_step(student, teacher, sample_ids=torch.tensor([7, 3, 8, 9])))
    error = student - teacher
    expected = torch.stack([(error[2] - error[0]).pow(2).mean(), (error[3] - error[2]).pow(2).mean()])
    torch.testing.assert_close(value, torch.cat([torch.zeros(2), expected]))


def test_the_sample_before_may_lie_in_another_process() -> None:
    mine, others = torch.randn(1, 3), torch.randn(1, 3)

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor, others if tensor.ndim == 2 else torch.tensor([4])])

    step = _step(mine, torch.zeros(1, 3), sample_ids=torch.tensor([5]), gather=gather)
    torch.testing.assert_close(TemporalDifference(along="samples")(step), (mine - others).pow(2).mean(1))


def test_vectors_have_no_time() -> None:
    step = _step(torch.randn(2, 3), torch.randn(2, 3))
    with pytest.raises(InputError, match='along = "samples"'):
        TemporalDifference().prepare(Setup(step.student, step.teachers, 2))


def test_a_difference_counts_where_both_moments_do() -> None:
    student, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    valid = torch.tensor([[True, True, True, False, False], [False, True, False, True, False]])
    found = temporal_difference(student, teacher, valid=valid)
    torch.testing.assert_close(found[0], temporal_difference(student[..., :3], teacher[..., :3])[0])
    assert found[1] == 0
