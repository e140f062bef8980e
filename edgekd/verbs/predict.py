"""The latency of a model on a board that is not at hand."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from edgekd.device.manifest import read_manifest
from edgekd.errors import InputError, device_errors_as
from edgekd.models.loading import load_onnx
from edgekd.models.onnx_graph import fixed_batch
from edgekd.models.precision import precision_of
from edgekd.models.source import Opening, open_model
from edgekd.predict.energy import estimate_energy
from edgekd.predict.features import Kernel, kernels_of
from edgekd.predict.predictor import Prediction, Predictor, find_predictor, read_predictor, shipped_predictors
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.state import OnnxForm
from edgekd.target import load_target
from edgekd.verbs.artifact_path import artifact_folder, is_artifact

NOTE = "predicted from the graph, never measured on this board"


def predict(
    model: Path,
    target_name: str,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    coefficients: str | None = None,
    family: str | None = None,
    opening: Opening | None = None,
) -> dict[str, Any]:
    """Predict the p50 of one call at batch 1, and estimate its energy.

    Args:
        model: an artifact, a run directory, an ONNX file, or a torch file that can be opened and exported.
        target_name: the board.
        runtime: None: the artifact's; of another model the target's own, where there are coefficients for it, else the only one
            that there are.
        precision: None: that of the file. A float file stands for what the runtime makes of it.
        threads: where coefficients differ in them.
        coefficients: a file, or the name of shipped ones; None: those that fit.
        family: of the fitted ones, that the network belongs to.
        opening: of a torch file.

    Raises:
        InputError: the model, the target or the coefficients cannot be read, or do not belong together.
        StageError: there are no coefficients for the target, or the network is out of their range.
    """
    target, _ = load_target(target_name)
    graph, made_for = graph_of(model, opening or Opening())
    own = precision_of(graph)
    precision = precision or own
    if coefficients is None:
        predictor = find_predictor(target.name, runtime or made_for, precision, threads, target.default_runtime)
    else:
        predictor = named_predictor(coefficients)
        check_fits(predictor, target.name, runtime or made_for, precision, threads)
    kernels = kernels_for(predictor, graph, own)
    said = predictor.predict(kernels, family)
    return _as_json(model, predictor, said)


def graph_of(model: Path, opening: Opening) -> tuple[onnx.ModelProto, str | None]:
    """Return the ONNX graph of an artifact, a run's last state, an ONNX file, or of an exported torch network.

    Returns:
        The graph, and the runtime that an artifact is for.

    Raises:
        InputError: it is none of these, an artifact for another form than ONNX, or its batch is fixed to more than 1.
        StageError: the network cannot be exported.
    """
    made_for = None
    if model.is_dir() and is_artifact(model):
        folder = artifact_folder(model)
        with device_errors_as(InputError):
            manifest = read_manifest(folder)
        model, made_for = folder / manifest.model_file, manifest.runtime
        if model.suffix != ".onnx":
            raise InputError(f"{folder} holds {model.name}; latency is predicted from ONNX files")
    graph = _graph(model, opening)
    if (fixed_batch(graph) or 1) > 1:
        raise InputError(
            f"the batch of {model.name} is fixed to {fixed_batch(graph)}; predictions are of batch 1: export it with a free batch"
        )
    return graph, made_for


def _graph(model: Path, opening: Opening) -> onnx.ModelProto:
    state = open_model(model, opening).state
    if isinstance(state.form, OnnxForm):
        return load_onnx(state.form.path)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        write_onnx(state.torch.module, state.signature, path)
        return onnx.load(str(path))


def named_predictor(name: str) -> Predictor:
    """Return the coefficients of a file, or the shipped ones of that name.

    Raises:
        InputError: there are none, or the file is wrong.
    """
    path, shipped = Path(name), shipped_predictors()
    if name in shipped and not path.exists():
        return shipped[name]
    if not path.exists():
        raise InputError(f"no file and no shipped coefficients {name!r}; shipped are {', '.join(shipped)}")
    return read_predictor(path)


def check_fits(predictor: Predictor, target: str, runtime: str | None, precision: str, threads: int | None) -> None:
    """Refuse coefficients of another board, runtime, precision or number of threads.

    Raises:
        InputError: they are.
    """
    wanted = {"target": target, "runtime": runtime, "precision": precision, "threads": threads}
    for field, value in wanted.items():
        known = getattr(predictor, field)
        if value is not None and known is not None and value != known:
            raise InputError(f"the coefficients {predictor.name} are for {field} {known}, not {value}")


def kernels_for(predictor: Predictor, graph: onnx.ModelProto, own: str) -> list[Kernel]:
    """Return the kernels of a graph as the coefficients count them.

    Raises:
        InputError: they count those of a file in another precision.
    """
    wanted = "fp32" if predictor.counted == "float file" else predictor.precision
    if own != wanted:
        raise InputError(
            f"the coefficients {predictor.name} count the kernels of a file in {wanted}, this one is {own}: "
            + (
                "give the float file that it was made from, and --precision"
                if wanted == "fp32"
                else "quantize it first"
            )
        )
    kernels = kernels_of(graph)
    return [one.stored_as(predictor.precision) for one in kernels] if predictor.counted == "float file" else kernels


def _as_json(model: Path, predictor: Predictor, said: Prediction) -> dict[str, Any]:
    figures = {"latency_p50_predicted_ms": said.figure(predictor), **estimate_energy(said.kernels)}
    return {
        "model": model.name,
        "target": predictor.target,
        "runtime": predictor.runtime,
        "precision": predictor.precision,
        "threads": predictor.threads,
        "coefficients": predictor.name,
        "source": predictor.source,
        "transferred_from": predictor.transferred_from,
        "figures": {name: figure.to_dict() for name, figure in figures.items()},
        "level": said.level,
        "median_error": said.error,
        "rests_on": said.rests_on,
        "bound": said.bound,
        "kernels": _by_time(said),
        "note": NOTE,
    }


def _by_time(said: Prediction) -> list[dict[str, Any]]:
    """Return the kernels with their microseconds and what they wait for, the slowest first."""
    total = float(said.times.total.sum())
    parts: Sequence[tuple[str, Any]] = [(name, getattr(said.times, name)) for name in ("overhead", "compute", "memory")]
    rows = [
        {
            "name": kernel.name,
            "operator": kernel.operator,
            "macs": kernel.macs,
            "bytes": kernel.bytes,
            "us": float(said.times.total[number]),
            "share": float(said.times.total[number]) / total,
            "bound": max(parts, key=lambda part: part[1][number])[0],
        }
        for number, kernel in enumerate(said.kernels)
    ]
    return sorted(rows, key=lambda row: -row["us"])
