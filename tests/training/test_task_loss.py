import pytest
import torch
from torch.nn import functional

from edgekd.training.task_loss import counted, has_task_loss, task_loss


@pytest.mark.parametrize(
    ("task", "output", "targets", "shape"),
    [
        ("classification", torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), (4,)),
        ("classification", torch.randn(4, 1), torch.tensor([0, 1, 1, 0]), (4,)),
        ("segmentation", torch.randn(4, 3, 5, 5), torch.randint(-1, 3, (4, 5, 5)), (4, 5, 5)),
        ("segmentation", torch.randn(4, 1, 5, 5), torch.randint(0, 2, (4, 5, 5)), (4, 5, 5)),
        ("regression", torch.randn(4, 1), torch.randn(4), (4,)),
        ("regression", torch.randn(4, 2, 5, 5), torch.randn(4, 2, 5, 5), (4,)),
        ("tokens", torch.randn(4, 6, 3), torch.randint(-1, 3, (4, 6)), (4, 6)),
        ("anomaly", torch.randn(4, 6), None, (4,)),
    ],
)
def test_every_task_has_a_loss_of_each_element(
    task: str, output: torch.Tensor, targets: torch.Tensor | None, shape: tuple[int, ...]
) -> None:
    leaf = output.clone().requires_grad_()
    loss = task_loss(task, leaf, targets, {"x": torch.randn(4, 6)})  # type: ignore[arg-type]
    loss.mean().backward()
    assert loss.shape == shape and torch.isfinite(loss).all() and leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_it_is_cross_entropy_over_what_is_labelled() -> None:
    logits, masks = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    masks[0] = -1
    loss, valid = task_loss("segmentation", logits, masks, {}), counted("segmentation", masks)
    assert valid is not None and (loss[0] == 0).all()
    torch.testing.assert_close(loss[valid].mean(), functional.cross_entropy(logits, masks, ignore_index=-1))


def test_one_logit_is_judged_by_its_sign() -> None:
    loss = task_loss("classification", torch.tensor([[9.0], [-9.0]]), torch.tensor([1, 1]), {})
    assert loss[0] < 0.01 and loss[1] > 8


def test_without_labels_only_reconstruction_is_a_task() -> None:
    assert has_task_loss("anomaly", labelled=False) and not has_task_loss("classification", labelled=False)
    assert has_task_loss("classification", labelled=True) and not has_task_loss("embedding", labelled=True)
