from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.losses import Answer, Setup, Step
from edgekd.losses.committee.learned_importance import LearnedImportance, corrected, load_balance, log_importance

from ..steps import make_step, random

TAP = "penultimate"


def cast(committee: LearnedImportance, samples: int = 3, **changes: Any) -> tuple[Step, Any]:
    torch.manual_seed(0)
    student = Answer({"output": random(samples, 4, seed=5)}, {TAP: random(samples, 6, seed=6)})
    teachers = {name: Answer({"output": random(samples, 4, seed=k)}) for k, name in enumerate("abc")}
    memory = committee.prepare(Setup(student, teachers, samples=samples, classes=4))
    return make_step(student, student, **{"teachers": teachers, **changes}), memory


def changed(step: Step, part: slice) -> Step:
    """Return the step of some of the samples."""

    def cut(answer: Answer) -> Answer:
        return Answer({k: v[part] for k, v in answer.outputs.items()}, {k: v[part] for k, v in answer.features.items()})

    teachers = {name: cut(answer) for name, answer in step.teachers.items()}
    return Step(**{**step.__dict__, "student": cut(step.student), "teachers": teachers})


def importance(step: Step, memory: Any) -> Tensor:
    return memory.scores(step.student.features[TAP]).softmax(1).detach()


def test_without_labels_the_answer_is_the_mixture_by_importance() -> None:
    step, memory = cast(LearnedImportance(), targets=None)
    p = torch.stack([answer.output().softmax(1) for answer in step.teachers.values()], 1)
    expected = (importance(step, memory)[..., None] * p).sum(1)
    torch.testing.assert_close(LearnedImportance()(step, memory).output().softmax(1), expected)


def test_where_there_is_a_label_teachers_count_by_how_well_they_know_it() -> None:
    step, memory = cast(LearnedImportance(), targets=torch.tensor([0, 2, -1]))
    p = torch.stack([answer.output().softmax(1) for answer in step.teachers.values()], 1)
    pi = importance(step, memory)
    for sample, label in ((0, 0), (1, 2), (2, None)):
        share = pi[sample] if label is None else pi[sample] * p[sample, :, label]
        expected = (share[:, None] * p[sample]).sum(0) / share.sum()
        torch.testing.assert_close(LearnedImportance()(step, memory).output().softmax(1)[sample], expected)


def test_the_load_is_balanced_at_equal_importance() -> None:
    assert load_balance(torch.full((5, 4), 0.25)).abs() < 1e-6
    torch.testing.assert_close(load_balance(torch.tensor([[1.0, 0.0]])), torch.tensor(2.0).log())


def test_importance_is_shared_by_those_who_are_there() -> None:
    log_pi = log_importance(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[True], [False], [True]]))
    expected = torch.tensor([0.0, 2.0]).softmax(0)
    torch.testing.assert_close(log_pi[:, 0].exp(), torch.tensor([expected[0], 0.0, expected[1]]))


def test_with_labels_the_gate_learns_the_likelihood_of_the_mixture() -> None:
    committee = LearnedImportance(balance=0)
    step, memory = cast(committee)
    assert step.targets is not None
    p = torch.stack([answer.output().softmax(1) for answer in step.teachers.values()], 1)
    mixed = (importance(step, memory)[..., None] * p).sum(1)
    expected = -mixed.log()[torch.arange(3), step.targets].mean()
    torch.testing.assert_close(committee.loss(step, committee(step, memory), memory).detach(), expected)


def test_without_labels_it_learns_the_distance_from_the_student() -> None:
    committee = LearnedImportance(balance=0)
    step, memory = cast(committee, targets=None)
    log_s = step.student.output().log_softmax(1)
    distance = torch.stack(
        [(one.output().softmax(1) * (one.output().log_softmax(1) - log_s)).sum(1) for one in step.teachers.values()], 1
    )
    expected = (importance(step, memory) * distance).sum(1).mean()
    torch.testing.assert_close(committee.loss(step, committee(step, memory), memory).detach(), expected)


def test_a_teacher_is_left_out_where_the_last_epoch_gave_it_little() -> None:
    committee = LearnedImportance(drop_below=0.4)
    step, memory = cast(committee, targets=None)
    ids = torch.arange(3)
    assert all(mask.all() for mask in committee.wanted(ids, memory).values()), "nothing is known yet"
    committee(step, memory)
    assert all(mask.all() for mask in committee.wanted(ids, memory).values()), "this epoch's do not count yet"
    committee.end_epoch(memory, 0)
    pi = importance(step, memory)
    expected = (pi >= 0.4) | (pi == pi.amax(1, keepdim=True))
    assert torch.equal(torch.stack(list(committee.wanted(ids, memory).values()), 1), expected)
    assert expected.any(1).all() and not expected.all()


def test_what_a_label_says_of_a_teacher_decides_whether_it_is_run_again() -> None:
    committee = LearnedImportance(drop_below=0.3)
    step, memory = cast(committee, targets=torch.tensor([0, -1, 1]))
    committee(step, memory)
    committee.end_epoch(memory, 0)
    p = torch.stack([answer.output().softmax(1) for answer in step.teachers.values()], 1)
    pi = importance(step, memory)
    for sample, label in ((0, 0), (1, None), (2, 1)):
        share = pi[sample] if label is None else pi[sample] * p[sample, :, label]
        torch.testing.assert_close(memory.before[sample], share / share.sum())


def test_what_labels_say_is_a_mean_over_labelled_positions_beside_what_absent_teachers_keep() -> None:
    importance = torch.tensor([[0.5, 0.3, 0.2]] * 2)
    share = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]], [[0.0, 0.0], [0.0, 0.0]]])  # (3, 2, 2)
    labels = torch.tensor([[4, -1], [-1, -1]])
    present = torch.tensor([[True, True], [True, True], [False, True]])
    found = corrected(importance, share, labels, present)
    torch.testing.assert_close(found, torch.tensor([[0.8 * 0.9, 0.8 * 0.1, 0.2], [0.5, 0.3, 0.2]]))


def test_the_gate_learns_to_avoid_a_teacher_that_was_left_out() -> None:
    committee = LearnedImportance(balance=0)
    step, memory = cast(committee)
    silent = {**step.teachers, "a": Answer({"output": torch.zeros(3, 4).double()})}
    left_out = Step(**{**step.__dict__, "teachers": silent})
    committee.loss(left_out, committee(left_out, memory), memory).backward()
    before = importance(step, memory)[:, 0]
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter -= 0.1 * parameter.grad
    assert (importance(step, memory)[:, 0] < before).all()


def test_samples_of_which_nothing_is_known_are_given_to_all() -> None:
    committee = LearnedImportance(drop_below=0.9)
    step, memory = cast(committee, sample_ids=torch.tensor([0, 1, 1]))
    committee(step, memory)
    committee.end_epoch(memory, 0)
    wanted = torch.stack(list(committee.wanted(torch.tensor([0, 2]), memory).values()), 1)
    assert wanted[0].sum() == 1 and wanted[1].all()


def test_nobody_is_left_out_during_the_warm_up_or_without_a_limit() -> None:
    committee = LearnedImportance(drop_below=0.9, warm_up=2)
    step, memory = cast(committee)
    committee(step, memory)
    committee.end_epoch(memory, 0)
    assert all(mask.all() for mask in committee.wanted(torch.arange(3), memory).values())
    committee(step, memory)
    committee.end_epoch(memory, 1)
    assert not all(mask.all() for mask in committee.wanted(torch.arange(3), memory).values())
    assert LearnedImportance(drop_below=0).wanted(torch.arange(3), memory) is None


def test_the_gate_finds_the_expert_of_each_sample() -> None:
    """Teacher a is right on classes 0 and 1, b on 2 and 3, c never."""
    labels = torch.arange(4).repeat(5)
    right = 4 * torch.eye(4, dtype=torch.float64)[labels]
    wrong = 4 * torch.eye(4, dtype=torch.float64)[(labels + 1) % 4]
    low = (labels < 2)[:, None]
    outputs = {"a": right.where(low, wrong), "b": right.where(~low, wrong), "c": wrong}
    committee = LearnedImportance()
    step, memory = cast(
        committee,
        20,
        targets=labels,
        sample_ids=torch.arange(20),
        teachers={k: Answer({"output": v}) for k, v in outputs.items()},
    )
    features = torch.eye(6, dtype=torch.float64)[labels]
    step = Step(**{**step.__dict__, "student": Answer(step.student.outputs, {TAP: features})})
    optimizer = torch.optim.Adam(memory.parameters(), 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        committee.loss(step, committee(step, memory), memory).backward()
        optimizer.step()
    assert torch.equal(importance(step, memory).argmax(1), (labels >= 2).long())
    committee.end_epoch(memory, 0)
    wanted = committee.wanted(torch.arange(20), memory)
    assert torch.equal(wanted["a"], low[:, 0]) and torch.equal(wanted["b"], ~low[:, 0]) and not wanted["c"].any()


def test_the_importances_of_all_processes_are_noted() -> None:
    """A second process holds samples 3 to 5, whose importances are those of 2, 1 and 0 here."""
    step, memory = cast(LearnedImportance(), 6, targets=None)
    step = changed(step, slice(0, 3))

    def gather(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor + 3 if tensor.ndim == 1 else tensor.flip(0)])

    LearnedImportance()(Step(**{**step.__dict__, "gather": gather}), memory)
    mine = importance(step, memory)
    torch.testing.assert_close(memory.now, torch.cat([mine, mine.flip(0)]))
    assert memory.seen.all()


def test_the_most_important_teacher_cannot_be_dropped() -> None:
    with pytest.raises(ValueError, match="less than 1"):
        LearnedImportance(drop_below=1.0)


def test_positions_that_do_not_count_do_not_teach_the_gate() -> None:
    committee = LearnedImportance()
    valid = torch.tensor([[True, True, False, False]] * 3)
    logits = random(2, 3, 4, 5)
    losses = []
    for tokens in (logits, torch.where(valid[..., None], logits, logits + random(2, 3, 4, 5, seed=9))):
        teachers = {name: Answer({"output": one}) for name, one in zip("ab", tokens, strict=True)}
        student = Answer({"output": random(3, 4, 5, seed=5)}, {TAP: random(3, 6, seed=6)})
        torch.manual_seed(0)
        memory = committee.prepare(Setup(student, teachers, samples=3))
        step = make_step(student, student, teachers=teachers, targets=None, valid=valid, class_axis=-1)
        losses.append(committee.loss(step, committee(step, memory), memory))
    torch.testing.assert_close(losses[0], losses[1])
