"""Whether a student's features come to resemble its teacher's: `python benchmarks/distillation/alignment.py`.

A segmenter of width 4 learns 64 images from one of width 24, as in `edgekd methods bench --data shapes`. Compared are the
features in the middle of both at every position of the held-out images, by linear CKA (0 unrelated, 1 alike), after
training without distillation and with each loss.
"""

import numpy as np
import torch
from common import arguments, write
from torch import Tensor, nn

from edgekd.losses.feature.cka import linear_cka
from edgekd.training.phase import Phase
from edgekd.verbs.methods.bench import NONE, TASK_ONLY, Arm, Bench
from edgekd.verbs.methods.experiments import experiment
from edgekd.verbs.statistics import paired

MIDDLE = {"middle": "middle"}
LOSSES: dict[str, dict[str, object]] = {
    "hint": {"kind": "hint", "taps": MIDDLE},
    "similarity": {"kind": "similarity", "weight": 10, "taps": MIDDLE},
    "hint, weight 10": {"kind": "hint", "weight": 10, "taps": MIDDLE},
    "similarity, weight 100": {"kind": "similarity", "weight": 100, "taps": MIDDLE},
    "focused-hint": {"kind": "focused-hint", "taps": MIDDLE},
}


@torch.no_grad()
def middle(network: nn.Module, images: Tensor) -> Tensor:
    """Return the features of every position (N H W, C)."""
    return network.middle(network.down(images)).movedim(1, -1).flatten(0, -2)  # type: ignore[operator]


def main() -> None:
    """Train all arms and compare."""
    given = arguments(__doc__, seeds=5)
    bench = Bench(experiment("shapes"), experiment("shapes").settings.epochs)
    images = torch.from_numpy(next(iter(bench.experiment.evaluation.inputs().values())))
    wanted = middle(bench.teacher("teacher").eval(), images)
    arms = [Arm("shapes", NONE, TASK_ONLY)]
    arms += [Arm("shapes", name, Phase.model_validate({"task": 1.0, "losses": [one]})) for name, one in LOSSES.items()]
    found: dict[str, list[float]] = {}
    for arm in arms:
        for seed in range(given.seeds):
            student, _ = bench.train(arm, seed)
            found.setdefault(arm.name, []).append(float(linear_cka(middle(student.eval(), images), wanted)))
        print(f"{arm.name}: {np.mean(found[arm.name]):.3f}", flush=True)
    lines = ["| arm | linear CKA with the teacher | difference | 95 % interval |", "|---|---|---|---|"]
    for name, values in found.items():
        one = paired([mine - other for mine, other in zip(values, found[NONE], strict=True)]) if name != NONE else None
        cells = " | ".join(one.in_words(3)) if one else "|"
        lines.append(f"| {name} | {np.mean(values):.3f} | {cells} |")
    write("alignment", "Features become those of the teacher (aim: linear CKA + 0.1)", lines, {"cka": found})


if __name__ == "__main__":
    main()
