"""Coefficients from a few latencies that were measured on the user's own board."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from edgekd.errors import InputError
from edgekd.models.precision import precision_of
from edgekd.models.source import Opening
from edgekd.predict.calibration import (
    FEW,
    SCRATCH,
    TRANSFER,
    Measured,
    fit_networks,
    fitted,
    inherited,
    leave_out,
    median_error,
    prior_of,
)
from edgekd.predict.features import Width, kernels_of
from edgekd.predict.predictor import FAMILIES_NEEDED, Predictor, shipped_predictors, to_json
from edgekd.target import load_target
from edgekd.verbs.predict import graph_of, named_predictor

_COLUMNS = ("model", "p50_ms", "family")


@dataclass(frozen=True)
class Row:
    """One measured latency: the file, its p50 in ms, and the family it belongs to, its own name where none is given."""

    file: Path
    p50_ms: float
    family: str


def calibrate(
    figures: Sequence[Path],
    target_name: str,
    output: Path,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Fit coefficients to measured latencies and write them; from few, transfer those of another board.

    Args:
        figures: a CSV or JSON list with `model`, `p50_ms` and perhaps `family`, or outputs of `profile --json`, each in the folder of its artifact.
        target_name: the board that they were measured on.
        output: the file to write.
        runtime: that they were measured in; None: the target's own.
        threads: of the runtime, if it is known.
        source: coefficients to transfer, a file or the name of shipped ones; None: the shipped ones for the same runtime and
            precision where there are fewer than five networks, else from scratch.

    Raises:
        InputError: a file, a row or a model is wrong, precisions differ, or there is nothing to transfer from.
    """
    target, _ = load_target(target_name)
    rows = [row for path in figures for row in read_figures(path)]
    if not rows:
        raise InputError(f"no measured networks in {', '.join(map(str, figures))}")
    graphs = {row.file: graph_of(row.file, Opening()) for row in rows}
    if len(graphs) < len(rows):
        raise InputError("a model is listed twice; give each once")
    precisions = sorted({precision_of(graph) for graph in graphs.values()})
    if len(precisions) > 1 or precisions[0] not in get_args(Width):
        raise InputError(
            f"these files are in {', '.join(precisions)}; coefficients are of one precision: {', '.join(get_args(Width))}"
        )
    precision, used = cast(Width, precisions[0]), runtime or target.default_runtime
    networks = [Measured(row.file.stem, row.family, tuple(kernels_of(graphs[row.file])), row.p50_ms) for row in rows]
    old = named_predictor(source) if source else None
    if old is None and len(networks) < FEW:
        old = _source(target.name, used, precision, len(networks))
    if old is not None and (old.precision != precision or (old.counted == "float file" and precision == "int8")):
        raise InputError(
            f"{old.name} cannot be transferred to {precision} files: it counts the kernels of {old.counted}s in {old.precision}"
        )
    prior, form = (old.coefficients(), TRANSFER) if old else (prior_of(used), SCRATCH)
    left_out = leave_out(networks, prior, form)
    new = fitted(networks, left_out)
    predictor = Predictor(
        schema=1,
        target=target.name,
        runtime=used,
        precision=precision,
        harness="calibrated",
        threads=threads,
        source=f"measured on the user's board: {', '.join(one.model for one in networks)}"[:200],
        basis="measured",
        counted="own file",
        transferred_from=old.name if old else None,
        networks=(*new, *(inherited(networks, old) if old else ())),
        **to_json(fit_networks(networks, prior, form)),
    )
    predictor.save(output)
    families = {one.family for one in networks}
    return {
        "coefficients": str(output),
        "target": target.name,
        "runtime": used,
        "precision": precision,
        "networks": [
            {"model": one.model, "family": one.family, "measured_ms": one.measured_ms, "left_out_ms": one.left_out_ms}
            for one in new
        ],
        "families": sorted(families),
        "left_out_median_error": median_error(new),
        "family_left_out_median_error": median_error(new, family=True) if len(families) >= FAMILIES_NEEDED else None,
        "transferred_from": predictor.transferred_from,
    }


def read_figures(path: Path) -> list[Row]:
    """Read measured latencies from a CSV, a JSON list, or the output of `profile --json` beside its artifact.

    Raises:
        InputError: it cannot be read, a column is missing or not known, or a time is not a positive number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from error
    if path.suffix.lower() != ".json":
        return [_row(path, number, row) for number, row in enumerate(_csv_rows(path, text), start=2)]
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("latency"), dict):
        return [_row(path, 1, {"model": ".", "p50_ms": content["latency"].get("p50_ms")})]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise InputError(
            f'{path} is neither the output of `profile --json` nor a list of {{"model": ..., "p50_ms": ...}}'
        )
    return [_row(path, number, row) for number, row in enumerate(content, start=1)]


def _csv_rows(path: Path, text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = list(reader.fieldnames or ())
    wrong = [name for name in columns if name not in _COLUMNS]
    missing = [name for name in _COLUMNS[:2] if name not in columns]
    if wrong or missing:
        said = [f"unknown column {name!r}" for name in wrong] + [f"no column {name!r}" for name in missing]
        raise InputError(
            f"{path}: {'; '.join(said)}; columns are model, p50_ms (in milliseconds) and, if you like, family"
        )
    return list(reader)


def _row(path: Path, number: int, row: Mapping[Any, Any]) -> Row:
    where = f"{path}, row {number}"
    unknown = [str(name) for name in row if name not in _COLUMNS]
    if unknown:
        raise InputError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(_COLUMNS)}")
    model, given = row.get("model"), row.get("p50_ms")
    if not isinstance(model, str) or not model:
        raise InputError(f"{where}: no model; give the path of its file")
    try:
        p50 = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        p50 = math.nan
    if not 0 < p50 < 1e9 or isinstance(given, bool):
        raise InputError(f"{where}: p50_ms is {given!r}; it must be a positive number of milliseconds")
    file = (path.parent / model).resolve()
    return Row(file, p50, str(row.get("family") or file.stem))


def _source(target: str, runtime: str, precision: str, count: int) -> Predictor:
    """Return the shipped coefficients to transfer: of the same runtime and precision, of the board itself if there are some."""
    known = [one for one in shipped_predictors().values() if (one.runtime, one.precision) == (runtime, precision)]
    if not known:
        raise InputError(
            f"{count} network{'s are' if count > 1 else ' is'} too few to fit {runtime} in {precision} from scratch ({FEW} are needed), and none "
            "are shipped to transfer; give --from COEFFICIENTS or measure more"
        )
    return min(known, key=lambda one: (one.target != target, one.name))
