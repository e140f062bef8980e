"""The predictor against published measurements: `python benchmarks/predictor/run.py`.

For every board, runtime, precision and harness with four networks or more: each network predicted by a fit to the others, and
each family by a fit to the others where there are three. The form of the model (sum or maximum, how far coefficients may
leave their prior) is chosen for a board by the errors on the *other* boards, so nothing is tuned on what it is tested on.

Also: coefficients carried over to a table that they never saw, and to a board of which one network was measured. Writes
`results.json` and `results.md` beside this script, and with `--ship` the coefficients of `edgekd/predict/coefficients/`.
"""

import argparse
import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from published import Key, Row, read_published

from edgekd.errors import StageError
from edgekd.predict.calibration import (
    TRANSFER,
    Measured,
    fit_networks,
    fitted,
    leave_out,
    median_error,
    predict_ms,
    prior_of,
)
from edgekd.predict.latency import Form
from edgekd.predict.predictor import FAMILIES_NEEDED, SHIPPED, Predictor, to_json
from edgekd.target import target_files

HERE = Path(__file__).parent
FORMS = [Form(p, term, single) for p, term, single in itertools.product((1.0, 4.0), (1.0, 2.0), (0.1, 0.3))]
LEAST = 4  # networks, to be judged
SHIPS = 5  # networks, to be shipped
SHIPPED_ERROR = 0.25  # at most, the median of left-out networks
OLD = ("ultralytics-8.3",)  # tables that a newer one of the same board replaces


def measured(rows: list[Row]) -> list[Measured]:
    """Return published rows as networks that can be fitted."""
    return [Measured(row.model, row.family, row.kernels, row.ms) for row in rows]


def left_out_errors(key: Key, networks: list[Measured], form: Form) -> list[float]:
    """Return the relative error of each network, predicted by a fit to the others."""
    predicted = leave_out(networks, prior_of(key.runtime), form)
    return [abs(alone / one.ms - 1) for one, (alone, _) in zip(networks, predicted, strict=True) if alone]


def choose(key: Key, medians: dict[Key, list[float]]) -> Form:
    """Return the form with the least error on the other boards with this kind of runtime, on average."""
    gpu = key.runtime == "tensorrt"
    others = [
        errors for other, errors in medians.items() if other.board != key.board and (other.runtime == "tensorrt") == gpu
    ]
    return FORMS[int(np.argmin(np.mean(others, axis=0)))]


def predictor_of(key: Key, rows: list[Row], form: Form) -> Predictor:
    """Return the predictor fitted to all rows, with the errors of those left out."""
    networks, prior = measured(rows), prior_of(key.runtime)
    return Predictor(
        schema=1,
        target=key.board,
        runtime=key.runtime,
        precision=key.precision,
        harness=key.harness,
        threads=int(key.threads) if key.threads else None,
        source="; ".join(sorted({row.source for row in rows})),
        basis="published",
        counted="float file",
        networks=fitted(networks, leave_out(networks, prior, form)),
        **to_json(fit_networks(networks, prior, form)),
    )


def carried(predictors: dict[Key, Predictor], data: dict[Key, list[Row]]) -> list[dict[str, Any]]:
    """Return what coefficients say of networks of the same board in other tables, and whether they say it."""
    found = []
    for key, predictor in predictors.items():
        for other, rows in data.items():
            alike = (other.board, other.runtime, other.precision) == (key.board, key.runtime, key.precision)
            if not alike or other.harness == key.harness or key.harness in OLD:
                continue
            for network in measured(rows):
                family = network.family if network.family in predictor.families else None
                try:
                    said = predictor.predict(network.kernels, family)
                    inside = said.low_ms <= network.ms <= said.high_ms
                except StageError:
                    inside = None
                predicted = predict_ms(network, predictor.coefficients())
                found.append(
                    {
                        "fitted": str(key),
                        "table": other.harness,
                        "model": network.model,
                        "measured_ms": network.ms,
                        "predicted_ms": predicted,
                        "error": predicted / network.ms - 1,
                        "inside": inside,
                    }
                )
    return found


def transfers(data: dict[Key, list[Row]], forms: dict[Key, Form]) -> list[dict[str, Any]]:
    """Return, for every pair of boards with one table, errors with one network of the new board: transferred, and from scratch."""
    found = []
    for old, new in itertools.permutations(forms, 2):
        same = (old.runtime, old.precision, old.harness, old.threads) == (
            new.runtime,
            new.precision,
            new.harness,
            new.threads,
        )
        if not same or old.board == new.board or len(data[old]) < SHIPS:
            continue
        source = fit_networks(measured(data[old]), prior_of(old.runtime), forms[old])
        networks = measured(data[new])
        moved, scratch = [], []
        for one in networks:
            rest = [other for other in networks if other is not one]
            with_source = fit_networks([one], source, TRANSFER)
            without = fit_networks([one], prior_of(new.runtime), forms[new])
            moved += [abs(predict_ms(other, with_source) / other.ms - 1) for other in rest]
            scratch += [abs(predict_ms(other, without) / other.ms - 1) for other in rest]
        whole = left_out_errors(new, networks, forms[new])
        found.append(
            {
                "from": old.board,
                "to": str(new),
                "share": 1 / len(networks),
                "transferred": float(np.median(moved)),
                "scratch": float(np.median(scratch)),
                "all_but_one": float(np.median(whole)),
            }
        )
    return found


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    judged = results["judged"]
    lines = [
        "# The predictor against published measurements\n\n",
        "Made by `python benchmarks/predictor/run.py` from `published.csv` and `architectures/`. Errors of networks that the fit has "
        "not seen: *left out* alone, or with their *family* where there are three. Sum or maximum, and how far "
        "coefficients may leave their prior, are chosen by the other boards.\n\n",
        f"Median of the medians: {100 * results['median_of_medians']:.1f} %; "
        f"{results['within_15']} of {len(judged)} tables have a median of at most 15 %.\n\n",
        "| board | runtime | precision | harness | threads | networks | families | left out: median | worst | families: median | worst | form |\n",
        "|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    ]
    for one in judged:
        key = one["key"]
        across = (
            "- | -"
            if one["family_median"] is None
            else f"{100 * one['family_median']:.1f} % | {100 * one['family_worst']:.0f} %"
        )
        form = "sum" if one["form"]["exponent"] == 1 else "maximum"
        lines.append(
            f"| {key['board']} | {key['runtime']} | {key['precision']} | {key['harness']} | {key['threads'] or '-'} | "
            f"{one['networks']} | {one['families']} | {100 * one['median']:.1f} % | {100 * one['worst']:.0f} % | {across} | {form} |\n"
        )
    lines += [
        "\n## The same board in another table\n\n",
        "Fitted to one table, asked for another: other networks, another harness. *Refused* is what `edgekd predict` does; the error is "
        "what it would have made.\n\n",
        "| fitted to | table | network | measured | predicted | error | |\n|---|---|---|---|---|---|---|\n",
    ]
    for one in results["carried"]:
        verdict = {None: "refused", True: "in the interval", False: "outside of the interval"}[one["inside"]]
        lines.append(
            f"| {one['fitted']} | {one['table']} | {one['model']} | {one['measured_ms']:.2f} ms | {one['predicted_ms']:.2f} ms | "
            f"{100 * one['error']:+.0f} % | {verdict} |\n"
        )
    ways = {"transferred": "transferred", "scratch": "from scratch", "all_but_one": "all but one"}
    medians = ", ".join(
        f"{title} {100 * float(np.median([one[way] for one in results['transfers']])):.1f} %"
        for way, title in ways.items()
    )
    lines += [
        "\n## One network of a new board\n\n",
        "Median error on the others, over every choice of the one: *transferred* from another board's coefficients, *from scratch* with "
        f"that one alone, and by a fit to *all but one*. Medians over the pairs: {medians}.\n\n",
        "| from | to | measured share | transferred | from scratch | all but one |\n|---|---|---|---|---|---|\n",
    ]
    for one in results["transfers"]:
        lines.append(
            f"| {one['from']} | {one['to']} | {100 * one['share']:.0f} % | {100 * one['transferred']:.1f} % | "
            f"{100 * one['scratch']:.1f} % | {100 * one['all_but_one']:.1f} % |\n"
        )
    return "".join(lines)


def main() -> None:
    """Fit, leave out, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ship", action="store_true", help="write the coefficients that edgekd ships")
    arguments = parser.parse_args()
    data = read_published()
    keys = [key for key, rows in data.items() if len(rows) >= LEAST]
    medians: dict[Key, list[float]] = {}
    for key in keys:
        networks = measured(data[key])
        medians[key] = [float(np.median(left_out_errors(key, networks, form))) for form in FORMS]
        print(f"{key}: {min(medians[key]):.3f} to {max(medians[key]):.3f}", flush=True)
    forms = {key: choose(key, medians) for key in keys}
    predictors = {key: predictor_of(key, data[key], forms[key]) for key in keys}
    judged = []
    for key, predictor in predictors.items():
        errors = {
            family: [
                abs(np.expm1(-error)) for one in predictor.networks if (error := one.error(family=family)) is not None
            ]
            for family in (False, True)
        }
        across = len(predictor.families) >= FAMILIES_NEEDED
        judged.append(
            {
                "key": asdict(key),
                "networks": len(predictor.networks),
                "families": len(predictor.families),
                "form": asdict(forms[key]),
                "median": median_error(predictor.networks),
                "worst": max(errors[False]),
                "family_median": median_error(predictor.networks, family=True) if across else None,
                "family_worst": max(errors[True]) if across else None,
                "left_out": {
                    one.model: [one.measured_ms, one.left_out_ms, one.family_left_out_ms] for one in predictor.networks
                },
            }
        )
    results = {
        "median_of_medians": float(np.median([one["median"] for one in judged])),
        "within_15": sum(one["median"] <= 0.15 for one in judged),
        "judged": judged,
        "carried": carried(predictors, data),
        "transfers": transfers(data, forms),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(page(results), encoding="utf-8")
    print(page(results))
    if arguments.ship:
        for key, predictor in predictors.items():
            error = median_error(predictor.networks)
            if key.board not in target_files() or len(predictor.networks) < SHIPS or key.harness in OLD:
                continue
            if error is not None and error <= SHIPPED_ERROR:
                predictor.save(SHIPPED / f"{predictor.name}.json")


if __name__ == "__main__":
    main()
