import numpy as np
import pytest
import torch
from torch import nn

from edgekd.verbs.methods.experiments import EXPERIMENTS, Wrong, experiment


def test_a_wrong_teacher_gives_another_class_on_the_same_share_of_inputs() -> None:
    network = Wrong(nn.Identity(), 5, 0.3)
    x = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0))
    chosen = network.chosen(x)
    assert 0.25 < chosen.float().mean() < 0.35
    assert torch.equal(network(x).argmax(1), torch.where(chosen, (x.argmax(1) + 1) % 5, x.argmax(1)))
    assert torch.equal(network.chosen(x[:7]), chosen[:7])


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "fashion-mnist"])
def test_a_seed_chooses_what_is_labelled_and_nothing_held_out(name: str) -> None:
    made = experiment(name)
    first, again, other = made.part(0), made.part(0), made.part(1)

    def labelled(part: object) -> list[int]:
        targets = part.targets  # type: ignore[attr-defined]
        chosen = part.indices if targets.ndim > 1 else part.indices[targets >= 0]  # type: ignore[attr-defined]
        return sorted(chosen.tolist())

    assert labelled(first) == labelled(again) != labelled(other)
    assert not set(first.indices.tolist()) & set(made.evaluation.indices.tolist())


def test_two_view_has_three_hundred_labels_and_more_pairs() -> None:
    part = experiment("two-view").part(0)
    assert part.targets is not None and part.dataset.targets is not None
    known = part.targets[part.targets >= 0]
    assert len(known) == 300 and np.bincount(known).tolist() == [50] * 6 and len(part) == 2000
    assert (part.dataset.targets[experiment("two-view").evaluation.indices] == -1).all()
