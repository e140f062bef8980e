"""What is lost by keeping only the eight largest logits: `python benchmarks/distillation/top_k.py`.

A perceptron of 16 hidden units learns 200 digits of ten classes from one of 512, whose answers are kept on disk: whole, or
the eight largest logits in float16 with the mass of the rest. Compared is the accuracy on the 500 held-out images.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from common import arguments, write

from edgekd.teachers.live import LiveTeacher
from edgekd.training.augment import Variants
from edgekd.training.caching import cached
from edgekd.training.loop import Material, train
from edgekd.training.phase import Phase
from edgekd.verbs.methods.bench import Bench
from edgekd.verbs.methods.experiments import experiment, training_context
from edgekd.verbs.statistics import paired

PHASE = Phase.model_validate({"task": 0.3, "losses": [{"kind": "kl", "weight": 0.7, "temperature": 4}]})
FORMS: tuple[Literal["full", "top-k"], ...] = ("full", "top-k")


def run(bench: Bench, form: Literal["full", "top-k"], seed: int, folder: Path) -> float:
    """Return the accuracy of a student that learned from answers in this form."""
    here = bench.experiment
    part = here.part(seed)
    torch.manual_seed(seed)
    student = here.student()
    context = replace(training_context(part, here.evaluation, here.metric, seed), teacher_cache=folder)
    live = LiveTeacher("teacher", bench.teacher("teacher"), "digits", part.signature)
    variants = Variants(1, len(part), seed)
    teachers = cached({"teacher": live}, form, part, (), variants, "float32", context)
    train(student, (PHASE,), Material(part, (), teachers, variants=variants), here.settings, context, form)
    return bench.judge(student, here.evaluation)


def main() -> None:
    """Train with both forms and compare."""
    given = arguments(__doc__, seeds=20)
    bench = Bench(experiment("digits"), experiment("digits").settings.epochs)
    found: dict[str, list[float]] = {form: [] for form in FORMS}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for form in FORMS:
                found[form].append(run(bench, form, seed, Path(folder)))
    one = paired([some - whole for some, whole in zip(found["top-k"], found["full"], strict=True)])
    lines = [
        "| answers kept | accuracy, % | difference | 95 % interval |",
        "|---|---|---|---|",
        f"| whole | {np.mean(found['full']):.2f} | | |",
        f"| top 8 of 10 | {np.mean(found['top-k']):.2f} | {' | '.join(one.in_words())} |",
    ]
    write("top_k", "Top-k answers against whole ones (aim: at most 0.3 points lost)", lines, {"accuracy": found})


if __name__ == "__main__":
    main()
