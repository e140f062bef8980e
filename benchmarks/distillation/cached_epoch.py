"""An epoch from the teacher cache against one with the live teacher: `python benchmarks/distillation/cached_epoch.py`.

ResNet-8 (16, 32, 64) learns on shipped images from the example's teacher, ResNet-8 (64, 128, 256), or from the network that it
was cut from, (32, 64, 128), with the usual settings of the distill stage. The live arm draws its augmentations anew, the cached arms have two fixed ones a sample and find every answer on disk. A block is
a training of two epochs; the second is timed, from the end of the first one's last step to the end of its own.
The sizes on disk are those of one epoch's answers, for the example's 10 classes and for a network with 1000.
"""

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from common import Clock, arguments, context, example_network, images, in_words, ratio, rounds, write

from edgekd.context import Context
from edgekd.data import Part
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.teachers.cached import CachedTeacher
from edgekd.teachers.live import LiveTeacher
from edgekd.teachers.teacher import Teacher
from edgekd.training.augment import Variants
from edgekd.training.caching import FORMS, cached
from edgekd.training.loop import Material, train
from edgekd.training.phase import Phase
from edgekd.training.settings import TrainingSettings

EPOCHS = 2
PHASE = Phase.model_validate({"task": 0.3, "losses": [{"kind": "kl", "weight": 0.7}]})
TEACHERS = {"teacher.pt": "the example's teacher", "model.pt": "the uncompressed network"}
FormName = Literal["full", "top-k"]


def settings(precision: str) -> TrainingSettings:
    """Return how is trained."""
    return TrainingSettings.model_validate({"epochs": EPOCHS, "precision": precision})


def opened(folder: Path, form: FormName, part: Part, precision: str, name: str) -> tuple[dict[str, Teacher], Variants]:
    """Return a network of the example behind its cache, and the augmentations that the cache belongs to."""
    variants = Variants(EPOCHS, len(part), 0)
    live = LiveTeacher("teacher", example_network(name), name, part.signature)
    where: Context = replace(context(part, 0), teacher_cache=folder / name / precision)
    return cached({"teacher": live}, form, part, part.dataset.augmentations, variants, precision, where), variants


def second_epoch(part: Part, teachers: dict[str, Teacher], variants: Variants | None, precision: str) -> float:
    """Return the seconds of the second epoch."""
    torch.manual_seed(0)
    student = ResNet8((16, 32, 64), num_classes=10, in_channels=1)
    clock = Clock()
    material = Material(part, part.dataset.augmentations, teachers, variants=variants)
    train(student, (PHASE,), material, settings(precision), context(part, 0, clock), "cached")
    half = len(clock.ends) // 2
    return clock.ends[-1] - clock.ends[half - 1]


def sizes(folder: Path, part: Part) -> dict[str, dict[str, int]]:
    """Return the bytes of one answer to every sample, by number of classes and form."""
    thousand = ResNet8((16, 32, 64), num_classes=1000, in_channels=1).eval()
    found: dict[str, dict[str, int]] = {}
    for classes, network in (("10", example_network()), ("1000", thousand)):
        live = LiveTeacher("teacher", network, f"network of {classes} classes", part.signature)
        found[classes] = {}
        for form, (outputs, features) in FORMS.items():
            one = CachedTeacher.open(folder / f"{classes}-{form}", part, live, outputs=outputs, features=features)
            one.fill(part)
            found[classes][form] = one.cache.size()
    return found


def main() -> None:
    """Fill the caches, time the epochs, and weigh what is on disk."""
    given = arguments(__doc__, rounds=10, images=3000)
    part, _ = images(given.images)
    lines = [
        "| teacher | precision | live, s an epoch | full | top-k | full / live (95 %) | top-k / live |",
        "|---|---|---|---|---|---|---|",
    ]
    results: dict[str, object] = {"images": len(part)}
    with tempfile.TemporaryDirectory() as work:
        for name, precision in itertools.product(TEACHERS, ("float32", "bfloat16")):
            print(name, precision)
            forms: tuple[FormName, ...] = ("full", "top-k")
            for form in forms:  # a first training fills the cache
                second_epoch(part, *opened(Path(work), form, part, precision, name), precision)
            live: dict[str, Teacher] = {"teacher": LiveTeacher("teacher", example_network(name), name, part.signature)}
            arms = {"live": lambda live=live, precision=precision: second_epoch(part, live, None, precision)}
            stored = {form: opened(Path(work), form, part, precision, name) for form in forms}
            for form, (teachers, variants) in stored.items():
                arms[form] = lambda teachers=teachers, variants=variants, precision=precision: second_epoch(
                    part, teachers, variants, precision
                )
            found = rounds(arms, given.rounds)
            asked = {form: teachers["teacher"].live.samples for form, (teachers, _) in stored.items()}  # type: ignore[attr-defined]
            against = {form: ratio(found[form], found["live"]) for form in forms}
            results[f"{name}, {precision}"] = {
                "seconds": found,
                "to live": against,
                "samples that the teacher was run on": asked,
            }
            middle = {arm: f"{np.median(times):.2f}" for arm, times in found.items()}
            lines.append(
                f"| {TEACHERS[name]} | {precision} | {middle['live']} | {middle['full']} | {middle['top-k']} | {in_words(against['full'])} | "
                f"{in_words(against['top-k'])} |"
            )
        found_sizes = sizes(Path(work) / "sizes", part)
    results["bytes"] = found_sizes
    lines += ["", "| classes | full, kB | half | top-k | top-k / full |", "|---|---|---|---|---|"]
    for classes, by_form in found_sizes.items():
        kilobytes = " | ".join(f"{by_form[form] / 1000:.0f}" for form in ("full", "half", "top-k"))
        lines.append(f"| {classes} | {kilobytes} | {by_form['top-k'] / by_form['full']:.2f} |")
    title = "An epoch from the teacher cache against the live teacher (aim: at most 60 %)"
    write("cached_epoch", title, lines, results, timed=True)


if __name__ == "__main__":
    main()
