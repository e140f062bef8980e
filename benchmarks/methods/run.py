"""Every distillation method against the arm without distillation, over several seeds; writes results.json and results.md.

Run `python benchmarks/methods/run.py --folder FOLDER`; FOLDER keeps every run, so it can be stopped and goes on. On two cores
digits, shapes and two-view take about an hour, Fashion-MNIST several.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

from edgekd import host
from edgekd.verbs.methods.bench import NONE, read_arms, run_bench
from edgekd.verbs.statistics import compared

HERE = Path(__file__).parent
SEEDS = {
    "digits": 20, "wrong-teacher": 20, "half-experts": 10, "two-view": 20, "two-view-shuffled": 10, "shapes": 10,
    "fashion-mnist": 6,
}  # fmt: skip
TUNED = "no distillation, tuned"
# Named before the final seeds were run: five to beat the arms without distillation, two of them to beat plain KL.
NAMED = ("kl", "gkl", "dkd", "kl and hint", "kl and focused-hint")
BEYOND_KL = ("kl and hint", "kl and focused-hint")


def against(table: dict[str, Any], names: tuple[str, ...], other: str) -> list[str]:
    """Return a line for each named arm: its paired difference from another arm, corrected for their number."""
    scores = {arm["name"]: arm["scores"] for arm in table["arms"]}
    pairs = {name: scores[name] for name in names if len(scores.get(name, ())) == len(scores.get(other, ())) > 1}
    return [
        f"| {name} | {' | '.join(one.difference.in_words())} | {one.difference.p:.4f} | {one.corrected:.4f} |"
        for name, one in compared(pairs, scores.get(other, ())).items()
    ]


def recovered(wrong: dict[str, Any], digits: dict[str, Any]) -> list[str]:
    """Return how much of what a teacher's errors cost each weight gives back: the teacher without errors is in `digits`."""
    means = {arm["name"]: np.mean(arm["scores"]) for arm in wrong["arms"] if arm["scores"]}
    clean = next(np.mean(arm["scores"]) for arm in digits["arms"] if arm["name"] == "kl")
    lost = clean - means.get("kl", clean)
    if lost <= 0:
        return []
    return [
        f"From a teacher without errors plain KL learns {clean:.2f}; the errors cost {lost:.2f} points. Of these are given back: "
        + ", ".join(
            f"{(mean - means['kl']) / lost:.0%} by {name}" for name, mean in means.items() if name not in (NONE, "kl")
        )
        + ".\n"
    ]


def teachers_run(table: dict[str, Any]) -> list[str]:
    """Return what share of the work of several teachers was done, where it was not all."""
    if len(table["teachers"]) < 2:
        return []
    shares = {arm["name"]: arm["teacher_share"] for arm in table["arms"] if (arm.get("teacher_share") or 1) < 1}
    return [
        f"Of all passes of the teachers {', '.join(f'{name} ran {share:.0%}' for name, share in shares.items())}.\n"
    ] * bool(shares)


def in_words(tables: list[dict[str, Any]], machine: str) -> str:
    """Return the page."""
    lines = [
        "# Distillation methods against the arm without distillation\n",
        f"Made by `python benchmarks/methods/run.py` on {machine}. Every arm has the same student, data, epochs and seeds as the arm",
        "without distillation; `edgekd methods bench --list` shows all settings: they are the methods' own but for some coefficients.",
        "Intervals are those of the paired difference (Student's t); p is corrected for the number of arms of a table (Holm).\n",
    ]
    for table in tables:
        lines += [
            f"## {table['data']}\n", f"{table['title']}\n", "| arm | mean | difference | 95 % interval | p | p (Holm) | |",
            "|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for arm in table["arms"]:
            one = arm["difference"]
            if arm["problem"]:
                lines.append(f"| {arm['name']} | | | | | | failed: {arm['problem']} |")
            elif one is None:
                lines.append(f"| {arm['name']} | {np.mean(arm['scores']):.2f} | | | | | |")
            else:
                verdict = "not distinguishable"
                if arm["p_holm"] < 0.05:
                    verdict = "better" if one["mean"] > 0 else "worse"
                lines.append(
                    f"| {arm['name']} | {np.mean(arm['scores']):.2f} | {one['mean']:+.2f} | {one['low']:+.2f} to {one['high']:+.2f} "
                    f"| {one['p']:.4f} | {arm['p_holm']:.4f} | {verdict} |"
                )
        lines += ["", *teachers_run(table)]
        if table["data"] == "wrong-teacher":
            lines += [line for one in tables if one["data"] == "digits" for line in recovered(table, one)]
        if table["data"] == "fashion-mnist":
            lines += ["Settings were explored with the seeds 100 and 101, on the same held-out images.\n"]
            for title, names, other in (
                ("Named in advance, against no distillation", NAMED, NONE),
                ("The same against no distillation tuned (rate, mixup, three times the epochs)", NAMED, TUNED),
                ("Named in advance, against plain KL", BEYOND_KL, "kl"),
            ):
                lines += [f"{title}:\n", "| arm | difference | 95 % interval | p | p (Holm) |", "|---|---|---|---|---|"]
                lines += [*against(table, names, other), ""]
    return "\n".join(lines)


def main() -> None:
    """Run what is asked, keep the other tables of results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="keeps every run")
    parser.add_argument("--data", action="append", choices=list(SEEDS), help="default: all")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    path = HERE / "results.json"
    machine = host.describe(host.this_machine())
    for data in arguments.data or SEEDS:
        arms, seeds = read_arms(None, (data,)), range(SEEDS[data])
        (table,) = run_bench(arms, seeds, folder=arguments.folder, threads=arguments.threads, say=print)
        known = json.loads(path.read_text(encoding="utf-8"))["tables"] if path.exists() else []  # of other runs, too
        tables = {**{one["data"]: one for one in known}, data: table.to_json()}
        ordered = [tables[name] for name in SEEDS if name in tables]
        content = {"machine": machine, "python": platform.python_version(), "tables": ordered}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (HERE / "results.md").write_text(in_words(ordered, machine), encoding="utf-8")


if __name__ == "__main__":
    main()
