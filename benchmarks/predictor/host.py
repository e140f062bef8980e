"""The predictor against this machine: `python benchmarks/predictor/host.py FOLDER MEASURED.json`.

FOLDER holds what `networks.py` wrote, MEASURED.json what `measure.py` measured. Coefficients are fitted to the kernels of the
development networks, once for fp32 and once for int8; the form was chosen on these alone, by leaving families out. Then they
predict the test networks, of families that nothing was fitted or chosen on, through the same range check as `edgekd predict`. Writes
`host.json` and `host.md` beside this script.

Also: the coefficients of a Raspberry Pi in another runtime, transferred to this machine by four of all networks.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from measure import kernel_times
from networks import DEVELOPMENT, TEST, Network

from edgekd.errors import StageError
from edgekd.predict.calibration import (
    ACCELERATED,
    PROCESSOR,
    SCRATCH,
    TRANSFER,
    Measured,
    fit_networks,
    fitted,
    predict_ms,
)
from edgekd.predict.features import Kernel, kernels_of
from edgekd.predict.latency import Coefficients, Form, Work, fit
from edgekd.predict.predictor import Predictor, shipped_predictors, to_json
from edgekd.predict.selection import choose_networks

HERE = Path(__file__).parent
FORMS = {"fp32": Form(4.0, 2.0, 1.0, 0.0, 0.1), "int8": Form(4.0, 2.0, 1.0, 0.3, 0.1)}
FROM, FEW, DRAWS = "raspberry-pi-5.ncnn.fp32.ncnn-benchmark.1t", 4, 30
_SHORTEST_US = 0.2  # below it the runtime's profile says nothing


@dataclass(frozen=True)
class Timed:
    """A network with its p50 and the microseconds of its kernels."""

    network: Measured
    kernels_us: tuple[float, ...]


def read(network: Network, precision: str, folder: Path, files: dict[str, Any]) -> Timed | None:
    """Return a network with its times, or None where it was not measured."""
    name = network.name if precision == "fp32" else f"{network.name}.int8"
    if not files.get(name):
        return None
    kernels: list[Kernel] = kernels_of(onnx.load(str(folder / f"{name}.onnx")))
    times = kernel_times(kernels, files[name])
    p50 = min(one["p50_ms"] for one in files[name])
    return Timed(Measured(network.name, network.family, tuple(kernels), p50), tuple(times))


def fit_kernels(timed: list[Timed], form: Form) -> Coefficients:
    """Return the coefficients of single kernels, each weighted by its share of its network's time."""
    samples, times, weights = [], [], []
    for one in timed:
        for kernel, time in zip(one.network.kernels, one.kernels_us, strict=True):
            if time > _SHORTEST_US:
                samples.append(Work.of([kernel]))
                times.append(time)
                weights.append(time / sum(one.kernels_us))
    return fit(samples, times, PROCESSOR, form, list(np.array(weights) / np.mean(weights)))


def predictor_of(timed: list[Timed], precision: str) -> Predictor:
    """Return the predictor of the development networks, with the errors of families that are left out."""
    form, networks = FORMS[precision], [one.network for one in timed]
    across = {}
    for family in dict.fromkeys(one.family for one in networks):
        coefficients = fit_kernels([one for one in timed if one.network.family != family], form)
        across |= {one.model: predict_ms(one, coefficients) for one in networks if one.family == family}
    return Predictor(
        schema=1,
        target="generic-x86",
        runtime="onnxruntime",
        precision=precision,
        harness="host",
        threads=1,
        source="benchmarks/predictor/host.py",
        basis="measured",
        counted="own file",
        networks=fitted(networks, [(None, across[one.model]) for one in networks]),
        **to_json(fit_kernels(timed, form)),
    )


def judge(predictor: Predictor, timed: list[Timed]) -> list[dict[str, Any]]:
    """Return what is predicted for networks, or why it is not."""
    rows = []
    for one in timed:
        network = one.network
        row: dict[str, Any] = {"model": network.model, "family": network.family, "measured_ms": network.ms}
        row["would_be_ms"] = predict_ms(network, predictor.coefficients())
        try:
            said = predictor.predict(network.kernels)
            rows.append({**row, "predicted_ms": said.ms, "inside": said.low_ms <= network.ms <= said.high_ms})
        except StageError as refusal:
            reason = str(refusal).partition("predicted: ")[2].partition(". `edgekd")[0]
            rows.append({**row, "predicted_ms": None, "refused": reason})
    return rows


def transfer(networks: list[Measured]) -> dict[str, Any]:
    """Return median errors on the others when four networks are measured: drawn, and chosen as `calibrate --choose` does.

    Each transferred from another board, and from scratch with these alone.
    """
    random = np.random.default_rng(0)
    shipped = shipped_predictors()
    ways = {"transferred": (shipped[FROM].coefficients(), TRANSFER), "scratch": (PROCESSOR, SCRATCH)}
    known = [
        one.coefficients() for one in shipped.values() if one.precision == "fp32" and one.runtime not in ACCELERATED
    ]
    chosen = choose_networks([one.kernels for one in networks], FEW, known)
    draws = [random.choice(len(networks), FEW, replace=False) for _ in range(DRAWS)]

    def error(numbers: Sequence[int], way: str) -> float:
        found = fit_networks([networks[number] for number in numbers], *ways[way])
        rest = [one for number, one in enumerate(networks) if number not in numbers]
        return float(np.median([abs(predict_ms(one, found) / one.ms - 1) for one in rest]))

    drawn = {way: [error(draw, way) for draw in draws] for way in ways}
    return {
        "from": FROM,
        "share": FEW / len(networks),
        "chosen": [networks[number].model for number in chosen],
        **{
            way: {"drawn": float(np.median(found)), "worst_draw": max(found), "chosen": error(chosen, way)}
            for way, found in drawn.items()
        },
    }


def summary(errors: list[float]) -> dict[str, Any]:
    """Return how many errors there are, their median, and the share within 25 %."""
    sizes = np.abs(errors)
    return {"networks": len(errors), "median": float(np.median(sizes)), "within_25": float(np.mean(sizes <= 0.25))}


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    machine = results["machine"]
    lines = [
        "# The predictor against this machine\n\n",
        f"Made by `python benchmarks/predictor/host.py` on {machine['cpu_model']} ({', '.join(machine['instruction_sets'])}), ONNX Runtime {results['onnxruntime']}, one "
        f"thread, {results['sessions']} sessions a file of which the quietest counts (the machine did other work). Development networks: families "
        "left out in turn; the form was chosen on them. Test networks: of families that nothing was fitted or chosen on. *In range*: those that `edgekd predict` does "
        "not refuse.\n\n| networks | precision | number | median error | within 25 % | in their interval |\n|---|---|---|---|---|---|\n",
    ]
    for precision, one in results["precisions"].items():
        rows = [
            ("development, left out", one["development"], "-"),
            ("test, all", one["all"], "-"),
            ("**test, in range**", one["in_range"], f"{100 * one['covered']:.0f} %"),
        ]
        for title, found, covered in rows:
            lines.append(
                f"| {title} | {precision} | {found['networks']} | {100 * found['median']:.1f} % | {100 * found['within_25']:.0f} % | {covered} |\n"
            )
    moved = results["transfer"]
    lines.append(
        f"\nFour networks measured ({100 * moved['share']:.0f} %), fp32: median error on the others. Drawn: {DRAWS} times; chosen: "
        f"{', '.join(moved['chosen'])}, as `edgekd calibrate --choose 4` says.\n\n| coefficients | drawn: median | worst draw | chosen |\n|---|---|---|---|\n"
    )
    for way, title in (("transferred", f"transferred from `{moved['from']}`"), ("scratch", "from scratch")):
        drawn, worst, chosen = (f"{100 * moved[way][one]:.1f} %" for one in ("drawn", "worst_draw", "chosen"))
        lines.append(f"| {title} | {drawn} | {worst} | {chosen} |\n")
    lines.append("\n| test network | precision | measured | predicted | error | |\n|---|---|---|---|---|---|\n")
    for precision, one in results["precisions"].items():
        for row in one["test"]:
            predicted = row["would_be_ms"]
            verdict = (
                f"refused: {row['refused']}"
                if row["predicted_ms"] is None
                else ""
                if row["inside"]
                else "outside of its interval"
            )
            lines.append(
                f"| {row['model']} | {precision} | {row['measured_ms']:.2f} ms | {predicted:.2f} ms | {100 * (predicted / row['measured_ms'] - 1):+.0f} % | {verdict} |\n"
            )
    return "".join(lines)


def main() -> None:
    """Fit, predict, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("measured", type=Path)
    arguments = parser.parse_args()
    content = json.loads(arguments.measured.read_text(encoding="utf-8"))
    files = content["files"]
    results: dict[str, Any] = {
        "machine": content["machine"],
        "onnxruntime": content["onnxruntime"],
        "sessions": min(len(sessions) for sessions in files.values()),
        "precisions": {},
    }
    for precision in FORMS:
        known, unknown = (
            [found for one in part if (found := read(one, precision, arguments.folder, files))]
            for part in (DEVELOPMENT, TEST)
        )
        predictor = predictor_of(known, precision)
        if precision == "fp32":
            results["transfer"] = transfer([one.network for one in (*known, *unknown)])
        rows = judge(predictor, unknown)
        said = [row for row in rows if row["predicted_ms"] is not None]
        results["precisions"][precision] = {
            "development": summary([(one.family_left_out_ms or 0) / one.measured_ms - 1 for one in predictor.networks]),
            "all": summary([row["would_be_ms"] / row["measured_ms"] - 1 for row in rows]),
            "in_range": summary([row["predicted_ms"] / row["measured_ms"] - 1 for row in said]),
            "covered": float(np.mean([row["inside"] for row in said])),
            "left_out": {one.model: [one.measured_ms, one.family_left_out_ms] for one in predictor.networks},
            "test": rows,
        }
    (HERE / "host.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "host.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
