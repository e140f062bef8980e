"""One exported file that does without a sensor: `python benchmarks/distillation/missing_modality.py`.

A classifier sees both views of `two-view` (2,000 samples to learn from) and a mask that says which of them is there. It is
trained on whole samples (what is missing is then filled with zeros), with views dropped in training and zeros in their
place, or with `ModalityTokens` in their place: with the labels alone, or with the loss `missing-modality` towards the first
one. Each is exported to ONNX once, and ONNX Runtime judges that one file on the 1,000 held-out samples: whole, without
view b, and without view a.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from common import arguments, write
from torch import Tensor, nn

from edgekd.data import Part
from edgekd.data.synthetic import two_view
from edgekd.losses.crossmodal.modality_tokens import ModalityTokens, ReliabilityFusion
from edgekd.metrics import METRICS
from edgekd.models.signature import Signature, TensorSpec
from edgekd.teachers.live import LiveTeacher
from edgekd.training.loop import Material, train
from edgekd.training.phase import Phase
from edgekd.training.settings import TrainingSettings
from edgekd.verbs.methods.experiments import training_context
from edgekd.verbs.statistics import paired

WIDTH, CLASSES = 16, 6
SETTINGS = TrainingSettings(epochs=40, batch_size=64, optimizer="adamw", learning_rate=3e-3, precision="float32")
TASK_ONLY = {"task": 1.0}
DISTILLED = {"task": 0.3, "losses": [{"kind": "missing-modality", "weight": 0.7}]}
ARMS = ("zeros where a view is missing", "the same, views dropped in training", "tokens", "tokens and missing-modality")
SENSORS = {"both": (1, 1), "without b": (1, 0), "without a": (0, 1)}


class Sensors(nn.Module):
    """Views a (N, 32) and b (N, 24), and which are there (N, 2), to logits (N, 6); it drops views in training."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Linear(32, WIDTH), nn.ReLU())
        self.b = nn.Sequential(nn.Linear(24, WIDTH), nn.ReLU())
        self.tokens = ModalityTokens(2, WIDTH) if kind != ARMS[0] else None
        if self.tokens is not None and kind == ARMS[1]:
            nn.init.zeros_(self.tokens.tokens).requires_grad_(False)
        self.fusion = ReliabilityFusion(2, WIDTH, CLASSES)

    def forward(self, a: Tensor, b: Tensor, there: Tensor) -> Tensor:
        """Return logits; without tokens, a view that is missing is zeros."""
        if self.tokens is None:
            a, b = a * there[:, :1], b * there[:, 1:]
        seen = torch.stack([self.a(a), self.b(b)], 1)
        return self.fusion(seen if self.tokens is None else self.tokens(seen, there))


def data() -> tuple[Part, Part]:
    """Return what is trained on and what is held out: both views as inputs."""
    views = two_view()
    inputs = {"a": views.extras["a"], "b": views.inputs["b"], "there": np.ones((len(views), 2), np.float32)}
    both = replace(views, inputs=inputs, extras={})
    signature = Signature(inputs=tuple(TensorSpec(name=k, shape=("batch", v.shape[1])) for k, v in inputs.items()))
    assert both.held_out is not None
    return tuple(Part(both, np.flatnonzero(chosen), signature) for chosen in (~both.held_out, both.held_out))  # type: ignore[return-value]


def trained(
    network: nn.Module, phase: dict[str, object], part: Part, seed: int, teacher: nn.Module | None
) -> nn.Module:
    """Return the network, trained."""
    teachers = {} if teacher is None else {"whole": LiveTeacher("whole", teacher, "whole", part.signature)}
    context = training_context(part, part, METRICS["accuracy"], seed)
    train(network, (Phase.model_validate(phase),), Material(part, (), teachers), SETTINGS, context, "sensors")
    return network.eval()


def judged(network: nn.Module, test: Part, folder: Path) -> dict[str, float]:
    """Return the accuracy of the exported file by what is there; a view that is missing holds zeros."""
    inputs = test.inputs()
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        network, tuple(torch.from_numpy(array[:2]) for array in inputs.values()), folder / "sensors.onnx",
        input_names=list(inputs), dynamic_shapes=[{0: batch}] * 3, dynamo=True, verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(folder / "sensors.onnx", providers=["CPUExecutionProvider"])
    found = {}
    for name, (a, b) in SENSORS.items():
        there = np.broadcast_to(np.array([a, b], np.float32), (len(test), 2)).copy()
        seen = {"a": inputs["a"] * np.float32(a), "b": inputs["b"] * np.float32(b), "there": there}
        found[name] = 100 * float((session.run(None, seen)[0].argmax(1) == test.targets).mean())
    return found


def main() -> None:
    """Train, export and judge."""
    given = arguments(__doc__, seeds=10)
    part, test = data()
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in range(given.seeds):
        networks: list[nn.Module] = []
        for arm in ARMS:
            torch.manual_seed(seed)
            phase, teacher = (DISTILLED, networks[0]) if arm == ARMS[-1] else (TASK_ONLY, None)
            networks.append(trained(Sensors(arm), phase, part, seed, teacher))
        with tempfile.TemporaryDirectory() as folder:
            for arm, network in zip(ARMS, networks, strict=True):
                found[arm].append(judged(network, test, Path(folder)))
                print(f"seed {seed}, {arm}: {found[arm][-1]}", flush=True)
    lines = ["| network | " + " | ".join(SENSORS) + " |", "|---|" + "---|" * len(SENSORS)]
    for arm, runs in found.items():
        cells = []
        for name in SENSORS:
            cell = f"{np.mean([one[name] for one in runs]):.2f}"
            if arm != ARMS[0]:
                gain = paired([one[name] - base[name] for one, base in zip(runs, found[ARMS[0]], strict=True)])
                cell += f" ({': '.join(gain.in_words())})"
            cells.append(cell)
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    write(
        "missing_modality",
        "One file without a sensor, accuracy in % (aim: 3 points above zeros)",
        lines,
        {"accuracy": found},
    )


if __name__ == "__main__":
    main()
