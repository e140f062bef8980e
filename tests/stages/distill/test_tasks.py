"""Every task can be distilled, with labels and without; what is padding has no part in it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekd.data import Dataset
from edgekd.errors import InputError

from .networks import CLASSES, N, Net, alive, checked, distilled, random_inputs, start


def maps(width: int, channels: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(5, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, channels, 1))


class Boxes(nn.Module):
    """A detector of one object: its box and the logits of its class, by name."""

    def __init__(self, width: int, seed: int = 0, names: tuple[str, str] = ("boxes", "scores")) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.box, self.score = nn.Linear(5, width), nn.Linear(width, 4), nn.Linear(width, 3)
        self._names = names

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return both outputs, the box first."""
        seen = self.body(x).relu()
        return dict(zip(self._names, (self.box(seen), self.score(seen)), strict=True))


class Tagger(nn.Module):
    """A class for every token (N, L, classes); it takes the tokens one by one, or looks at all that are no padding."""

    def __init__(self, width: int, seed: int = 0, *, attends: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.head, self._attends = nn.Linear(5, width), nn.Linear(width, CLASSES), attends

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the logits of every token."""
        seen = self.body(x).relu()
        if attention_mask is not None:
            scores = seen @ seen.transpose(1, 2)
            seen = scores.masked_fill(attention_mask[:, None] == 0, -1e9).softmax(-1) @ seen
        return self.head(seen)


CLASS_LABELS = np.arange(N) % CLASSES
RANDOM = np.random.default_rng(3)
CASES: dict[str, tuple[Any, nn.Module, nn.Module, tuple[int, ...], NDArray[Any]]] = {
    "classification": ("classification", Net("vector", 6), Net("vector", 8, seed=1), (5,), CLASS_LABELS),
    "some labels": (
        "classification", Net("vector", 6), Net("vector", 8, seed=1), (5,), np.where(np.arange(N) % 4, CLASS_LABELS, -1),
    ),
    "one logit": ("classification", Net("vector", 6, 1), Net("vector", 8, 1, seed=1), (5,), CLASS_LABELS % 2),
    "regression": ("regression", Net("vector", 6, 1), Net("vector", 8, 1, seed=1), (5,), random_inputs(seed=1)),
    "several values": ("regression", Net("vector", 6, 3), Net("vector", 8, 3, seed=1), (5,), random_inputs(3, seed=1)),
    "dense regression": ("regression", maps(6, 2), maps(8, 2, 1), (5, 6, 6), random_inputs(2, 6, 6, seed=1)),
    "segmentation": ("segmentation", maps(6, 3), maps(8, 3, 1), (5, 6, 6), RANDOM.integers(-1, 3, (N, 6, 6))),
    "binary masks": ("segmentation", maps(6, 1), maps(8, 1, 1), (5, 6, 6), RANDOM.integers(0, 2, (N, 6, 6))),
    "anomaly": ("anomaly", Net("vector", 6, 5), Net("vector", 8, 5, seed=1), (5,), np.arange(N) % 2),
    "detection": ("detection", Boxes(6), Boxes(8, 1), (5,), random_inputs(4, seed=1)),
    "embedding": ("embedding", Net("vector", 6, 7), Net("vector", 8, 7, seed=1), (5,), CLASS_LABELS),
    "tokens": ("tokens", Tagger(6), Tagger(8, 1), (6, 5), RANDOM.integers(-1, CLASSES, (N, 6))),
}  # fmt: skip


def weights(network: nn.Module) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_every_task_is_distilled_with_and_without_labels(case: str, labelled: bool, tmp_path: Path) -> None:
    task, student, teacher, size, targets = CASES[case]
    data = Dataset({"x": random_inputs(*size)}, targets=targets if labelled else None)
    state, context = start(student, data, task, tmp_path, teachers=alive(teacher))
    made = distilled(state, context, epochs=6, learning_rate=0.05)
    notes = made.notes
    assert ("task" in notes["terms"][0]) == (task == "anomaly" or (labelled and task != "embedding"))
    assert np.isfinite(notes["loss"]).all() and notes["loss"][-1] < notes["loss"][0]
    assert not torch.equal(weights(made.torch.module), weights(student))


WORDS = np.random.default_rng(4).integers(0, CLASSES, (N, 6))
OF_TOKENS: list[dict[str, Any]] = [
    {},
    *({"losses": [kind], "task": 0} for kind in ("hint", "query-retrieval", "context-token", "privileged")),
    {"losses": ["gkl", "dkd", "dkl", "dist", "graph-smoothing", "logit-standardization", "kl-cosine", "mse"]},
    {"losses": [{"kind": "kl", "importance": kind} for kind in ("teacher-confidence", "difficulty")]},
    {"losses": [{"kind": "kl", "importance": "teacher-disagreement"}], "committee": "variance"},
    {"losses": ["kl"], "committee": "meta-mlp"},
]


def sentences(mask: str, *, changed: bool, labelled: bool) -> Dataset:
    """Return sentences of 3 to 6 tokens in rows of 6; where they are padding with other values if `changed`."""
    counts = np.arange(6) < (3 + np.arange(N) % 4)[:, None]
    values, targets = random_inputs(6, 5), WORDS
    if changed:
        values, targets = np.where(counts[:, :, None], values, np.float32(9)), np.where(counts, targets, 0)
    padding = {mask: counts.astype(np.int64)}
    taken = padding if mask == "attention_mask" else {}
    return Dataset(
        {"x": values} | taken, targets=targets if labelled else None, extras={} if taken else padding,
    )  # fmt: skip


def learned(data: Dataset, folder: Path, *, attends: bool, **settings: Any) -> Tensor:
    """Return the weights of a tagger that was distilled from two others."""
    teachers = {
        name: make
        for seed, name in enumerate(("first", "second"), 1)
        for name, make in alive(Tagger(8, seed, attends=attends), name).items()
    }
    state, context = start(Tagger(6, attends=attends), data, "tokens", folder, teachers=teachers)
    return weights(distilled(state, context, **settings).torch.module)


def check_padding_has_no_part(folder: Path, mask: str, *, labelled: bool = True, **settings: Any) -> None:
    one, other = (
        learned(
            sentences(mask, changed=changed, labelled=labelled), folder, attends=mask == "attention_mask", **settings
        )
        for changed in (False, True)
    )
    assert not torch.equal(one, weights(Tagger(6)))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("settings", OF_TOKENS, ids=str)
def test_padding_changes_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    check_padding_has_no_part(tmp_path, "valid", **settings)


@pytest.mark.parametrize("labelled", [True, False])
def test_padding_that_the_network_takes_changes_nothing(labelled: bool, tmp_path: Path) -> None:
    check_padding_has_no_part(tmp_path, "attention_mask", labelled=labelled, losses=["kl", "hint"])


def test_without_the_mask_padding_is_learned_from(tmp_path: Path) -> None:
    """The tests above can fail."""
    made = []
    for changed in (False, True):
        data = sentences("valid", changed=changed, labelled=True)
        made.append(learned(Dataset(data.inputs, targets=data.targets), tmp_path, attends=False))
    assert not torch.allclose(*made)


def test_further_outputs_learn_from_their_own_targets_and_from_the_teachers(tmp_path: Path) -> None:
    data = Dataset(
        {"x": random_inputs(5)}, targets=random_inputs(4), extras={"targets.scores": random_inputs(3, seed=2)}
    )
    state, context = start(Boxes(6), data, "detection", tmp_path, teachers=alive(Boxes(8, 1)))
    losses = [{"kind": "mse", "output": "boxes"}, {"kind": "kl", "output": "scores"}]
    before = state.torch.module.state_dict()
    for settings in ({"losses": losses, "task": 0}, {"losses": [], "task": 1}):
        after = distilled(state, context, **settings).torch.module.state_dict()
        assert not torch.equal(before["box.weight"], after["box.weight"])
        assert not torch.equal(before["score.weight"], after["score.weight"])
    one = distilled(state, context, losses=losses[:1], task=0).torch.module.state_dict()
    assert not torch.equal(before["box.weight"], one["box.weight"])
    torch.testing.assert_close(before["score.weight"], one["score.weight"], rtol=0, atol=1e-3)  # decays at most


def test_teachers_of_other_outputs_are_refused(tmp_path: Path) -> None:
    data = Dataset({"x": random_inputs(5)}, targets=random_inputs(4))
    teachers = alive(Boxes(8, 1, ("corners", "scores")))
    state, context = start(Boxes(6), data, "detection", tmp_path, teachers=teachers)
    with pytest.raises(
        InputError, match="no output 'boxes' in both; the student has boxes, scores, the teacher teacher"
    ):
        checked(state, context, losses=[{"kind": "mse", "output": "boxes"}])
