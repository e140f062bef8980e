import torch

from edgekd.losses import Answer
from edgekd.losses.logit.dist import Dist, pearson_distance

from ..steps import answers, make_step, random


def test_it_is_one_minus_the_correlation() -> None:
    student, teacher = random(5, 9), random(5, 9, seed=1)
    found = pearson_distance(student, teacher)
    for row in range(5):
        torch.testing.assert_close(found[row], 1 - torch.corrcoef(torch.stack([student[row], teacher[row]]))[0, 1])


def test_shift_and_scale_do_not_matter() -> None:
    student = random(5, 9)
    assert pearson_distance(3 * student + 2, student).abs().max() < 1e-9
    torch.testing.assert_close(pearson_distance(-student, student), torch.full((5,), 2.0).double())


def test_it_adds_both_directions() -> None:
    loss = Dist.model_validate({"beta": 3, "gamma": 0.5, "temperature": 2})
    student, teacher = answers(loss, seed=1)
    mine, yours = (student.output() / 2).softmax(1), (teacher.output() / 2).softmax(1)
    rows = torch.stack([torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(mine, yours, strict=True)])
    columns = torch.stack([torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(mine.T, yours.T, strict=True)])
    expected = 4 * (3 * (1 - rows) + 0.5 * (1 - columns).mean())
    torch.testing.assert_close(loss(make_step(student, teacher)), expected)


def test_a_constant_side_has_distance_one_and_no_gradient_trouble() -> None:
    student = torch.zeros(2, 4, requires_grad=True)
    value = pearson_distance(student, random(2, 4, dtype=torch.float32))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.tolist() == [1, 1] and torch.isfinite(gradient).all()


def test_positions_left_out_do_not_count() -> None:
    student, teacher = random(2, 4, 3, 3), random(2, 4, 3, 3, seed=1)
    valid = torch.ones(2, 3, 3, dtype=torch.bool)
    valid[1, 1:] = False
    found = [
        Dist()(make_step(Answer({"output": torch.where(valid[:, None], student, changed)}), Answer({"output": teacher}), valid=valid))
        for changed in (student, student + random(2, 4, 3, 3, seed=2))
    ]  # fmt: skip
    torch.testing.assert_close(found[0][valid], found[1][valid])
    kept = [Answer({"output": tensor.movedim(1, -1)[valid]}) for tensor in (student, teacher)]
    torch.testing.assert_close(found[0][valid], Dist()(make_step(*kept)))


def test_a_class_is_compared_over_the_samples_of_all_processes() -> None:
    student, teacher = random(6, 4), random(6, 4, seed=1)
    whole = Dist()(make_step(Answer({"output": student}), Answer({"output": teacher})))
    others = iter([student[3:].softmax(1), teacher[3:].softmax(1)])
    half = make_step(
        Answer({"output": student[:3]}), Answer({"output": teacher[:3]}), gather=lambda tensor: torch.cat([tensor, next(others)])
    )  # fmt: skip
    torch.testing.assert_close(Dist()(half), whole[:3])
