import dataclasses

import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Step
from edgekd.losses.logit.listwise import Listwise, flops, info_nce, listwise_kl, quadratic_ramp

from ..steps import make_setup, make_step, random

QUERY, DOCUMENTS = random(3, 6, seed=2), random(3, 4, 6, seed=3)


def full_step(**changes: object) -> Step:
    scores = torch.einsum("nv,nkv->nk", QUERY, DOCUMENTS)
    student = Answer({"output": scores, "query": QUERY, "documents": DOCUMENTS})
    return make_step(student, Answer({"output": random(3, 4, seed=1)}), **changes)


def test_the_divergence_is_torch_s() -> None:
    student, teacher = random(3, 4), random(3, 4, seed=1)
    expected = functional.kl_div((student / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(listwise_kl(student, teacher, 2.0), expected)


def test_candidates_that_do_not_count_are_left_out() -> None:
    student, teacher = random(3, 4), random(3, 4, seed=1)
    counts = torch.tensor([True, False, True, True])
    torch.testing.assert_close(
        listwise_kl(student, teacher, 1.0, counts), listwise_kl(student[:, counts], teacher[:, counts])
    )
    assert torch.isfinite(listwise_kl(student, teacher, 1.0, torch.zeros(4, dtype=torch.bool))).all()


def test_info_nce_is_cross_entropy_with_the_positive_as_class() -> None:
    scores = random(3, 4)
    expected = functional.cross_entropy(scores / 0.5, torch.zeros(3, dtype=torch.long), reduction="none")
    torch.testing.assert_close(info_nce(scores[:, 0], scores, 0.5), expected)


def test_flops_are_the_sum_of_squared_mean_sizes() -> None:
    weights = random(5, 6)
    expected = sum(weights[:, j].abs().mean() ** 2 for j in range(6))
    torch.testing.assert_close(flops(weights), torch.as_tensor(expected))
    counts = torch.tensor([True, True, False, True, False])
    torch.testing.assert_close(flops(weights, counts), flops(weights[counts]))


def test_flops_fall_where_texts_share_no_terms() -> None:
    apart = torch.eye(4)
    together = torch.zeros(4, 4)
    together[:, 0] = 1.0
    assert flops(apart) == 0.25 and flops(together) == 1.0


def test_the_ramp_is_quadratic_and_then_stays() -> None:
    assert [quadratic_ramp(progress, 0.4) for progress in (0.0, 0.2, 0.4, 1.0)] == [0.0, 0.25, 1.0, 1.0]
    assert quadratic_ramp(0.0, 0.0) == 1.0


def test_the_whole_batch_is_contrasted_where_term_weights_are_named() -> None:
    step = full_step()
    loss = Listwise(contrast=1.0, sparsity=0.0, query="query", documents="documents")  # type: ignore[arg-type]
    scores = QUERY @ DOCUMENTS.reshape(12, 6).T
    contrast = functional.cross_entropy(scores, torch.tensor([0, 4, 8]), reduction="none")
    divergence = listwise_kl(step.student.output(), step.the_teacher.output())
    torch.testing.assert_close(loss(step), divergence + contrast)


def test_named_term_weights_are_regularised_by_the_ramp() -> None:
    named = Listwise(contrast=0.0, sparsity=2.0, query="query", ramp=0.5)  # type: ignore[arg-type]
    plain = Listwise(contrast=0.0)  # type: ignore[arg-type]
    step = full_step(progress=0.25)
    torch.testing.assert_close(named(step) - plain(step), (2.0 * 0.25 * flops(QUERY)).expand(3))


def test_documents_of_other_processes_are_negatives() -> None:
    loss = Listwise(query="query", documents="documents", sparsity=0.0)  # type: ignore[arg-type]
    alone, together = full_step(), full_step(gather=lambda tensor: torch.cat([tensor, 2 * tensor]))
    assert (loss(together) > loss(alone)).all()


def test_samples_that_do_not_count_are_no_negatives() -> None:
    loss = Listwise(query="query", documents="documents")
    valid = torch.tensor([True, True, False])
    step = full_step(valid=valid)
    outputs = {name: tensor.clone() for name, tensor in step.student.outputs.items()}
    outputs["documents"][2] += 5
    outputs["query"][2] -= 1
    changed = dataclasses.replace(step, student=Answer(outputs))
    torch.testing.assert_close(loss(step)[valid], loss(changed)[valid])


def test_outputs_that_do_not_fit_are_named() -> None:
    step = full_step()
    setup = make_setup(step.student, step.the_teacher)
    Listwise(query="query", documents="documents").prepare(setup)
    with pytest.raises(InputError, match="'terms'"):
        Listwise(query="terms").prepare(setup)
    with pytest.raises(InputError, match="candidates"):
        Listwise(output="documents").prepare(make_setup(step.student, step.student))
