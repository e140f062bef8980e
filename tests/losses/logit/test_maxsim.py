import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Step
from edgekd.losses.logit.listwise import listwise_kl
from edgekd.losses.logit.maxsim import MaxSim, maxsim

from ..steps import make_step, random

QUERY, DOCUMENT = random(3, 2, 4), random(3, 5, 4, seed=1)
QUERY_MASK = torch.tensor([[True, True], [True, False], [True, True]])
DOCUMENT_MASK = torch.arange(5)[None] < torch.tensor([[5], [3], [0]])


def step_of(**changes: object) -> Step:
    teacher = Answer({"query": random(3, 2, 8, seed=2), "document": random(3, 5, 8, seed=3)})
    return make_step(Answer({"query": QUERY, "document": DOCUMENT}), teacher, **changes)


def test_it_is_the_sum_of_best_matches_of_the_tokens_that_count() -> None:
    found = maxsim(QUERY, DOCUMENT, QUERY_MASK, DOCUMENT_MASK)
    for n in range(3):
        for m in range(3):
            tokens = [DOCUMENT[m, j] for j in range(5) if DOCUMENT_MASK[m, j]]
            best = [
                max(float(QUERY[n, i] @ token) for token in tokens) for i in range(2) if QUERY_MASK[n, i] and tokens
            ]
            assert float(found[n, m]) == pytest.approx(sum(best))


def test_rankings_are_compared_whatever_the_widths() -> None:
    step = step_of()
    loss = MaxSim(normalise=False)
    student = maxsim(QUERY, DOCUMENT)
    teacher = maxsim(step.the_teacher.output("query"), step.the_teacher.output("document"))
    torch.testing.assert_close(loss(step), listwise_kl(student, teacher))
    torch.testing.assert_close(MaxSim(normalise=False, by="mse")(step), (student - teacher).square().mean(1))


def test_scores_of_scaled_tokens_are_the_same_where_normalised() -> None:
    step = step_of()
    scaled = Answer({"query": 3 * QUERY, "document": 0.5 * DOCUMENT})
    torch.testing.assert_close(MaxSim().scores(step, scaled), MaxSim().scores(step, step.student))


def test_embeddings_and_masks_may_be_arrays_of_the_data_set() -> None:
    step = step_of(extras={"stored": DOCUMENT, "words": QUERY_MASK, "terms": DOCUMENT_MASK})
    loss = MaxSim(document="stored", query_mask="words", document_mask="terms", normalise=False)
    torch.testing.assert_close(loss.scores(step, step.student), maxsim(QUERY, DOCUMENT, QUERY_MASK, DOCUMENT_MASK))
    with pytest.raises(InputError, match="'absent'"):
        MaxSim(document="absent")(step)


def test_documents_of_other_processes_are_scored_too() -> None:
    step = step_of(gather=lambda tensor: torch.cat([tensor, tensor]))
    assert MaxSim().scores(step, step.student).shape == (3, 6)


@pytest.mark.parametrize("by", ["kl", "mse"])
def test_documents_that_do_not_count_change_nothing(by: str) -> None:
    loss = MaxSim(by=by)  # type: ignore[arg-type]
    valid = torch.tensor([True, True, False])
    step = step_of(valid=valid)
    other = DOCUMENT.clone()
    other[2] = random(5, 4, seed=9)
    changed = make_step(Answer({"query": QUERY, "document": other}), step.the_teacher, valid=valid)
    torch.testing.assert_close(loss(step)[valid], loss(changed)[valid])
