"""Coefficients from a few latencies that were measured on the user's own board."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from edgekd.device.files import check_place_of
from edgekd.errors import InputError, device_errors_as
from edgekd.models.precision import precision_of
from edgekd.models.source import Opening
from edgekd.predict.calibration import (
    ACCELERATED,
    FEW,
    SCRATCH,
    TRANSFER,
    Measured,
    fit_networks,
    fitted,
    leave_out,
    median_error,
    prior_of,
)
from edgekd.predict.features import Kernel, Width, kernels_of
from edgekd.predict.predictor import (
    FAMILIES_NEEDED,
    LONGEST_NAME,
    Predictor,
    read_predictor,
    shipped_predictors,
    to_json,
)
from edgekd.predict.selection import choose_networks
from edgekd.target import NAME_PATTERN, Target, load_target
from edgekd.verbs.measured_latencies import MeasuredLatency, read_latencies
from edgekd.verbs.predict import graph_of, named_predictor


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
        runtime: that they were measured in; None: the one that profiles name, else the target's own.
        threads: of the runtime, if it is known; None: those that profiles name.
        source: coefficients to transfer, a file or the name of shipped ones; None: the shipped ones for the same runtime and
            precision where there are fewer than five networks, else from scratch.

    Raises:
        InputError: a file, a row or a model is wrong, profiles are of another machine, precisions differ, there is nothing to
            transfer from, or the output cannot be written.
    """
    target, _ = load_target(target_name)
    with device_errors_as(InputError):
        check_place_of(output)
    if output.resolve() in [path.resolve() for path in figures]:
        raise InputError(f"-o {output} would overwrite the measurements; give another file")
    if output.exists():
        try:
            read_predictor(output)
        except InputError as error:
            raise InputError(f"-o {output} exists and holds no coefficients; give another file") from error
    rows = _rows(figures)
    without = [row.where for row in rows if row.p50_ms is None]
    if without:
        raise InputError(f"{without[0]}: no p50_ms; leave the row out until it is measured, or say --choose")
    used, threads = _how_measured(rows, target, runtime, threads)
    precision, kernels = _kernels(rows)
    networks = [
        Measured(row.name, row.family, tuple(found), row.p50_ms)
        for row, found in zip(rows, kernels, strict=True)
        if row.p50_ms is not None
    ]
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
        source=f"measured on the user's board: {', '.join(one.model for one in networks)}"[:LONGEST_NAME],
        basis="measured",
        counted="own file",
        transferred_from=old.name if old else None,
        networks=new,
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


def choose(figures: Sequence[Path], target_name: str, count: int, *, runtime: str | None = None) -> dict[str, Any]:
    """Say which networks to measure first, of those that have no p50 yet: see `choose_networks`.

    Args:
        figures: as `calibrate` takes them; of candidates `p50_ms` is empty.
        target_name: the board.
        count: how many to choose.
        runtime: that will be measured; None: as in `calibrate`.

    Raises:
        InputError: as in `calibrate`, or every network is measured.
    """
    target, _ = load_target(target_name)
    rows = _rows(figures)
    used, _ = _how_measured(rows, target, runtime, None)
    precision, kernels = _kernels(rows)
    measured = [number for number, row in enumerate(rows) if row.p50_ms is not None]
    if len(measured) == len(rows):
        raise InputError("every network has a p50_ms; leave it empty for those to choose from")
    known = [
        one.coefficients()
        for one in shipped_predictors().values()
        if one.precision == precision and (one.runtime in ACCELERATED) == (used in ACCELERATED)
    ]
    chosen = choose_networks(kernels, count, known, measured)
    return {
        "target": target.name,
        "runtime": used,
        "precision": precision,
        "choose": [{"model": rows[number].name, "file": str(rows[number].file)} for number in chosen],
    }


def _rows(figures: Sequence[Path]) -> list[MeasuredLatency]:
    rows = [row for path in figures for row in read_latencies(path)]
    if not rows:
        raise InputError(f"no networks in {', '.join(map(str, figures))}")
    if len({os.path.realpath(row.file) for row in rows}) < len(rows):
        raise InputError("a model is listed twice; give each once")
    often = Counter(row.name for row in rows)
    return [row if often[row.name] == 1 else _by_path(row) for row in rows]


def _by_path(row: MeasuredLatency) -> MeasuredLatency:
    """Return a row whose name, which others have as well, is the path of its file."""
    path = str(row.file)[-LONGEST_NAME:]
    return replace(row, name=path, family=path if row.family == row.name else row.family)


def _kernels(rows: Sequence[MeasuredLatency]) -> tuple[Width, list[list[Kernel]]]:
    """Return the one precision of all files, and the kernels of each."""
    graphs = [graph_of(row.file, Opening())[0] for row in rows]
    precisions = sorted({precision_of(graph) for graph in graphs})
    if len(precisions) > 1 or precisions[0] not in get_args(Width):
        raise InputError(
            f"these files are in {', '.join(precisions)}; coefficients are of one precision: {', '.join(get_args(Width))}"
        )
    return cast(Width, precisions[0]), [kernels_of(graph) for graph in graphs]


def _how_measured(
    rows: Sequence[MeasuredLatency], target: Target, runtime: str | None, threads: int | None
) -> tuple[str, int | None]:
    """Return the runtime and threads of the measurements, which profiles name and a person may; else artifacts name the runtime.

    Raises:
        InputError: two of them disagree, a profile is of another machine, or the name is no name.
    """
    if runtime is not None and not re.fullmatch(NAME_PATTERN, runtime):
        raise InputError(
            f"--runtime {runtime!r} is no name of a runtime; {target.name} has {', '.join(target.runtime)}"
        )
    for row in rows:
        if row.profile is None:
            continue
        row.profile.check_target(target, row.where)
        for field, known in (("runtime", runtime), ("threads", threads)):
            found = getattr(row.profile, field)
            if known is not None and found is not None and found != known:
                raise InputError(f"{row.where} was measured with {field} {found}, not {known}")
        runtime, threads = row.profile.runtime, row.profile.threads or threads
    made_for = sorted({row.made_for for row in rows if row.made_for is not None})
    if runtime is None and len(made_for) > 1:
        raise InputError(f"these artifacts are for {' and '.join(made_for)}: say --runtime")
    return runtime or (made_for[0] if made_for else target.default_runtime), threads


def _source(target: str, runtime: str, precision: str, count: int) -> Predictor:
    """Return the shipped coefficients to transfer: of the same runtime and precision, of the board itself if there are some."""
    known = [one for one in shipped_predictors().values() if (one.runtime, one.precision) == (runtime, precision)]
    if not known:
        raise InputError(
            f"{count} network{'s are' if count > 1 else ' is'} too few to fit {runtime} in {precision} from scratch ({FEW} are needed), and none "
            "are shipped to transfer; give --from COEFFICIENTS or measure more"
        )
    return min(known, key=lambda one: (one.target != target, one.name))
