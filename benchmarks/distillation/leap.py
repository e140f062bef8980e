"""LEAP's curriculum against the same loss with the last block always: `python benchmarks/distillation/leap.py`.

A vision transformer of six blocks is trained on the shipped Fashion-MNIST images; one of two blocks learns from 4,000 of
them, by the task's loss and LEAP's token loss. The arms differ in the teacher's blocks alone: all six in turn, as the
curriculum of aligned features has it, the teacher stopped behind the block that is due; or the last one from start to end.
Accuracy: 10,000 test images, at the end of training. Work: the multiply-accumulates that the engine counts.
"""

import statistics

import numpy as np
import torch
from common import arguments, context, cut, images, write
from torch import nn

from edgekd.data import Part
from edgekd.models.networks.vit import ViT
from edgekd.teachers.live import LiveTeacher
from edgekd.training.loop import Material, train
from edgekd.training.phase import Phase
from edgekd.training.settings import TrainingSettings
from edgekd.verbs.statistics import paired

DEPTH, WEIGHT, THRESHOLD = 6, 5.0, 0.95  # weight and threshold were tuned with the seeds 100 and 101
BLOCKS = tuple(f"blocks.{number}" for number in range(DEPTH))
ARMS = {"curriculum": BLOCKS, "last block": BLOCKS[-1:]}
TEACHER = TrainingSettings(epochs=25, optimizer="adamw", learning_rate=1e-3, batch_size=64, precision="float32")
STUDENT = TrainingSettings(epochs=30, optimizer="adamw", learning_rate=2e-3, batch_size=64, precision="float32")


def transformer(depth: int, seed: int) -> nn.Module:
    """Return a new vision transformer: 16 patches of 7 x 7, 64 features."""
    torch.manual_seed(seed)
    return ViT(28, 7, dim=64, depth=depth, heads=4, mlp_dim=128, num_classes=10, in_channels=1)


@torch.no_grad()
def accuracy(network: nn.Module, part: Part) -> float:
    """Return the accuracy in percent."""
    hits = 0
    for start in range(0, len(part), 500):
        chosen = slice(start, start + 500)
        answer = network.eval()(torch.from_numpy(part.inputs(chosen)["image"])).argmax(1)
        hits += int((answer.numpy() == part.targets_at(chosen)).sum())
    return 100 * hits / len(part)


def run(blocks: tuple[str, ...], teacher: nn.Module, part: Part, test: Part, seed: int) -> dict[str, float]:
    """Train a student; return its accuracy and the work of its teacher."""
    student = transformer(2, seed)
    live = LiveTeacher("teacher", teacher, "vit", part.signature)
    per_block = -(-STUDENT.epochs // (DEPTH + 1))  # so that the last block is reached in time
    loss = {
        "kind": "leap",
        "weight": WEIGHT,
        "student": "blocks.1",
        "blocks": blocks,
        "cls": 0.0,
        "threshold": THRESHOLD,
        "max_epochs": per_block,
    }
    phase = Phase.model_validate({"task": 1.0, "losses": [loss]})
    history = train(student, (phase,), Material(part, (), {"teacher": live}), STUDENT, context(part, seed), "leap")
    cost = history.teachers["teacher"]
    return {"accuracy": accuracy(student, test), "gigamacs": cost["macs"] / 1e9, "share": cost["share"]}


def main() -> None:
    """Train the teacher, then a student for every arm and seed."""
    given = arguments(__doc__, seeds=5, first=0, images=4000)
    everything, test = images(12_000)
    teacher = transformer(DEPTH, 1000)
    alone = (Phase.model_validate({"task": 1.0}),)
    material = Material(everything, everything.dataset.augmentations)
    train(teacher, alone, material, TEACHER, context(everything, 1000), "teacher")
    best = accuracy(teacher, test)
    print(f"teacher: {best:.2f} %", flush=True)
    part = cut(everything, given.images)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for seed in range(given.first, given.first + given.seeds):
        for name, blocks in ARMS.items():
            found[name].append(run(blocks, teacher, part, test, seed))
            print(f"seed {seed}, {name}: {found[name][-1]}", flush=True)
    lines = [
        f"Teacher: {best:.2f} %, six blocks. Student: two blocks, {STUDENT.epochs} epochs of {len(part):,} images.\n",
        "| arm | accuracy, mean of seeds | by seed | share of the teacher run | teacher's GMACs a training |",
        "|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        scores = [one["accuracy"] for one in runs]
        lines.append(
            f"| {name} | {statistics.mean(scores):.2f} | {', '.join(f'{score:.2f}' for score in scores)} | "
            f"{statistics.mean(one['share'] for one in runs):.3f} | {statistics.mean(one['gigamacs'] for one in runs):.1f} |"
        )
    pairs = list(zip(found["curriculum"], found["last block"], strict=True))
    saved = 1 - float(np.mean([ours["gigamacs"] / other["gigamacs"] for ours, other in pairs]))
    results: dict[str, object] = {"teacher": best, "runs": found, "saved": saved}
    lines.append(f"\nThe curriculum saves {saved:.0%} of the teacher's work.")
    if len(pairs) > 1:
        gain = paired([ours["accuracy"] - other["accuracy"] for ours, other in pairs])
        difference, interval = gain.in_words()
        results["difference"] = vars(gain)
        lines.append(f"Its accuracy differs by {difference} points (95 %: {interval}, p {gain.p:.3f}).")
    write("leap", "LEAP: the teacher stopped early (aim: 25 % less work at equal or better accuracy)", lines, results)


if __name__ == "__main__":
    main()
