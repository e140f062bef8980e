import pytest
import torch

from edgekd.losses import Answer, Setup, Step
from edgekd.losses.crossmodal.concept_filter import ConceptFilter, ConceptStatistics, kept_concepts
from edgekd.losses.logit.kl import temperature_kl

from ..steps import random


def test_the_concepts_of_the_leading_directions_are_kept() -> None:
    """A loop over eigenvectors, and then over concepts by falling importance."""
    x = random(40, 6) @ torch.diag(torch.tensor([3.0, 0.1, 2.0, 0.05, 1.0, 0.02])).double()
    covariance = torch.cov(x.T)
    values, vectors = torch.linalg.eigh(covariance)
    importance, held = torch.zeros(6).double(), 0.0
    for j in reversed(range(6)):
        if held >= 0.9 * float(values.sum()):
            break
        importance += values[j] * vectors[:, j] ** 2
        held += float(values[j])
    expected, held = [], 0.0
    for c in importance.argsort(descending=True).tolist():
        if held >= 0.95 * float(importance.sum()):
            break
        expected.append(c)
        held += float(importance[c])
    assert kept_concepts(covariance, 0.9, 0.95).nonzero().flatten().tolist() == sorted(expected)
    assert 2 <= len(expected) < 6


def test_concepts_that_tell_nothing_apart_are_dropped() -> None:
    variances = torch.tensor([1e-9, 1.0, 1e-9, 2.0, 3.0])
    assert kept_concepts(torch.diag(variances), 0.999, 0.999).tolist() == [False, True, False, True, True]


def test_all_that_vary_are_kept_where_everything_is_asked_for() -> None:
    assert kept_concepts(torch.diag(torch.tensor([1.0, 2.0, 4.0])), 1.0, 1.0).all()


@pytest.mark.parametrize("covariance", [torch.zeros(4, 4), torch.diag(torch.tensor([0.0, 0.0, 1.0, 0.0]))])
def test_at_least_two_are_kept(covariance: torch.Tensor) -> None:
    assert kept_concepts(covariance).sum() == 2


def test_the_covariance_is_that_of_all_batches() -> None:
    statistics = ConceptStatistics(5).double()
    p = random(30, 5).softmax(1)
    for part in p.split(8):
        statistics.add(torch.cat([part, part + 1]), torch.arange(2 * len(part)) < len(part))
    torch.testing.assert_close(statistics.covariance(), torch.cov(p.T, correction=0))


def test_the_covariance_of_nearly_equal_similarities_is_not_lost_in_rounding() -> None:
    statistics = ConceptStatistics(200)
    p = (0.2 + 0.03 * random(1, 200) + 0.002 * random(6400, 200, seed=1)).softmax(1)
    for part in p.split(64):
        statistics.add(part.float(), torch.ones(64, dtype=torch.bool))
    exact = torch.cov(p.T, correction=0)
    assert (statistics.covariance().double() - exact).norm() < 1e-3 * exact.norm()


def made(**fields: object) -> tuple[ConceptFilter, Step, ConceptStatistics]:
    loss = ConceptFilter(**fields)  # type: ignore[arg-type]
    scale = torch.tensor([3.0, 0.01, 2.0, 0.01, 0.01])
    mine, yours = Answer({"output": random(20, 5)}), Answer({"output": random(20, 5, seed=1) * scale})
    memory = loss.prepare(Setup(mine, {"t": yours}, samples=20)).double()
    return loss, Step(mine, {"t": yours}, yours), memory


def test_all_concepts_count_in_the_first_epoch_then_those_that_are_kept() -> None:
    loss, step, memory = made(spectrum=0.9, concepts=0.6)
    mine, yours = step.student.output(), step.the_teacher.output()
    torch.testing.assert_close(loss(step, memory), temperature_kl(mine, yours, 1.0, "both"))
    loss.end_epoch(memory, 0)
    keep = kept_concepts(torch.cov(yours.softmax(1).T, correction=0), 0.9, 0.6)
    assert torch.equal(memory.keep, keep) and 2 <= keep.sum() < 5 and keep[0] and keep[2]
    torch.testing.assert_close(loss(step, memory), temperature_kl(mine[:, keep], yours[:, keep], 1.0, "both"))


def test_the_decision_stands() -> None:
    loss, step, memory = made()
    loss(step, memory)
    loss.end_epoch(memory, 0)
    keep, count = memory.keep.clone(), memory.count.clone()
    other = Answer({"output": step.the_teacher.output().flip(1)})
    loss(Step(step.student, {"t": other}, other), memory)
    loss.end_epoch(memory, 1)
    assert torch.equal(memory.keep, keep) and memory.count == count == 20


def test_nothing_is_decided_before_something_was_seen_in_training() -> None:
    loss, step, memory = made()
    with torch.no_grad():
        loss(step, memory)
    loss.end_epoch(memory, 0)
    assert memory.count == 0 and not memory.decided and memory.keep.all()


def test_statistics_are_of_all_processes() -> None:
    loss, step, memory = made()
    loss(
        Step(
            **{
                **step.__dict__,
                "gather": lambda tensor: torch.cat([tensor, tensor.flip(1) if tensor.ndim > 1 else tensor]),
            }
        ),
        memory,
    )
    p = step.the_teacher.output().softmax(1)
    torch.testing.assert_close(memory.covariance(), torch.cov(torch.cat([p, p.flip(1)]).T, correction=0))


@pytest.mark.parametrize("field", [{"spectrum": 0.0}, {"concepts": 1.1}])
def test_bad_settings_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        ConceptFilter(**field)  # type: ignore[arg-type]
