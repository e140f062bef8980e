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
CASES: dict[str, tuple[Any, nn.Module, nn.Module, tuple[int, ...], NDArray[Any] | None]] = {
    "classification": ("classification", Net("vector", 6), Net("vector", 8, seed=1), (5,), CLASS_LABELS),
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
WITHOUT = {"anomaly", "embedding"}  # the input is the target; only a teacher's vectors are


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


def padded(mask: str, *, changed: bool, labelled: bool = True) -> Dataset:
    """Return sentences of 3 to 6 tokens in rows of 6, and with other values where they are padding if `changed`."""
    lengths = 3 + np.arange(N) % 4
    counts = np.arange(6) < lengths[:, None]
    values, targets = random_inputs(6, 5), RANDOM_TOKENS
    if changed:
        values, targets = np.where(counts[:, :, None], values, 9.0), np.where(counts, targets, 0)
    inputs, extras = {"x": values.astype(np.float32)}, {mask: counts.astype(np.int64)}
    if mask == "attention_mask":
        inputs, extras = inputs | extras, {}
    return Dataset(inputs, targets=targets if labelled else None, extras=extras)


RANDOM_TOKENS = np.random.default_rng(4).integers(0, CLASSES, (N, 6))

from edgekd.losses import LOSSES, WEIGHTS, COMMITTEES, POLICIES
def sets():
    for k in sorted(LOSSES): yield "loss-"+k, {"losses": [LOSSES[k].example()]}
    for k in sorted(WEIGHTS): yield "weight-"+k, {"losses": [{"kind":"kl","importance":WEIGHTS[k].example()}]}
    for k in sorted(COMMITTEES): yield "com-"+k, {"losses":["kl"],"committee": COMMITTEES[k].example()}
@pytest.mark.parametrize("settings", [pytest.param(s,id=i) for i,s in sets()])
def test_y(settings, tmp_path):
    made = []
    for changed in (False, True):
        student, teacher = Tagger(6), Tagger(8, 1)
        state, context = start(student, padded("valid", changed=changed), "tokens", tmp_path, teachers=alive(teacher)|alive(Tagger(8,2),"second"))
        made.append(weights(distilled(state, context, **settings).torch.module))
    torch.testing.assert_close(made[0], made[1])
