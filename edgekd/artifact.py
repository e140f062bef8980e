"""The artifact: the folder that goes to the device, with the device half that runs it, and its parity check."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgekd
from edgekd.context import Context
from edgekd.data import Dataset, Part
from edgekd.device.batches import run_all
from edgekd.device.errors import DeviceError
from edgekd.device.manifest import FileEntry, Manifest, Preprocessing, SelfCheckSpec, write_manifest
from edgekd.device.pack import write_pyz
from edgekd.device.postprocessing import CLASS_AXIS
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import TensorInfo
from edgekd.device.selfcheck import Samples, compare_output, write_samples
from edgekd.errors import InputError, StageError
from edgekd.host import runtime_here
from edgekd.models.onnx_graph import inside_preprocessing
from edgekd.models.precision import Precision
from edgekd.models.signature import Signature, Task, TensorSpec
from edgekd.recipe import ExportSettings
from edgekd.stages.export import EXPORTERS

SAMPLES = 16
# SPDX identifiers of licences that let samples be given away with no more than their origin named.
OPEN_LICENCES = (
    "MIT", "Apache-2.0", "ISC", "0BSD", "BSD-2-Clause", "BSD-3-Clause", "Unlicense", "PDDL-1.0", "CC0-1.0", "CC-PDDC",
    "CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0", "CC-BY-4.0", "CDLA-Permissive-2.0",
)  # fmt: skip
# A file of integers differs a little between instruction sets (x86 without VNNI saturates), so a board may differ a little too.
_INTEGERS: tuple[Precision, ...] = (
    "int8",
    "int8+fp16",
    "int8-dynamic",
    "int8-weights",
    "int4-weights",
    "ternary-weights",
)
COSINE: dict[Precision, float] = {"fp32": 0.9999, "fp16": 0.999, **dict.fromkeys(_INTEGERS, 0.98)}
AGREEMENT: dict[Precision, float] = {"fp32": 0.99, "fp16": 0.95, **dict.fromkeys(_INTEGERS, 0.8)}


@dataclass(frozen=True)
class Parity:
    """The written file against the network before it was written, on real inputs.

    `cosine` is the mean over the samples, `agreement` the share of equal decisions, None without classes.
    """

    samples: int
    cosine: float
    lowest_cosine: float
    max_abs_difference: float
    agreement: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return dict(vars(self))


def write_artifact(
    folder: Path,
    name: str,
    source: Path,
    precision: Precision,
    signature: Signature,
    settings: ExportSettings,
    context: Context,
) -> Manifest:
    """Write the artifact into a folder that nobody sees yet.

    Raises:
        StageError: the written file does not run, or does not do what its manifest says.
    """
    exporter = EXPORTERS[context.runtime_name]
    folder.mkdir(parents=True, exist_ok=True)
    model = exporter.write(source, signature, settings, folder)
    inside = settings.input == "uint8"
    inputs, origin = _samples(context.parts.evaluation, signature, settings, inside=inside)
    try:
        session = open_session(runtime_here(context.runtime_name), model, 1)
        write_samples(folder / "samples.npz", Samples(inputs, run_all(session, inputs)))
        write_pyz(folder / "run.pyz")
        manifest = Manifest(
            edgekd=edgekd.__version__,
            name=name,
            task=signature.task,
            labels=signature.labels,
            target=context.target.name,
            runtime=runtime_here(context.runtime_name),
            precision=precision,
            model_file=model.name,
            files={path.name: FileEntry.of(path) for path in sorted(folder.iterdir())},
            inputs=_tensors(signature.inputs, session.inputs),
            outputs=_tensors(signature.outputs, session.outputs),
            preprocessing=_preprocessing(signature, inside=inside),
            selfcheck=SelfCheckSpec("samples.npz", origin, AGREEMENT[precision], COSINE[precision]),
            versions=exporter.requirements,
        )
        write_manifest(folder, manifest)
    except DeviceError as error:
        raise StageError(f"the exported file does not pass its own check: {error}") from error
    if exporter.remains is not None:
        context.log(f"on the device: {exporter.remains}")
    return manifest


def _tensors(specs: Sequence[TensorSpec], written: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    """Return the tensors as the file has them: its dtype, and its batch where that is fixed."""
    found = {info.name: info for info in written}
    return tuple(
        TensorInfo(spec.name, (found[spec.name].shape[:1] or spec.shape[:1]) + spec.shape[1:], found[spec.name].dtype)
        for spec in specs
    )


def parity(
    written: Path,
    runtime: str,
    expected: dict[str, NDArray[Any]],
    inputs: dict[str, NDArray[Any]],
    precision: Precision,
    task: Task = "classification",
) -> Parity:
    """Load the written file in its runtime and compare its outputs with the network's on real inputs.

    An int8 file may differ, and its score says what that costs.

    Raises:
        StageError: it does not run, or a float file differs from the network by more than 1e-3 of its largest output.
    """
    try:
        outputs = run_all(open_session(runtime, written, 1), inputs)
        compared = [
            compare_output(name, outputs[name], wanted, CLASS_AXIS.get(task)) for name, wanted in expected.items()
        ]
    except DeviceError as error:
        raise StageError(f"the written file does not run: {error}") from error
    worst = min(compared, key=lambda one: one.cosine)
    largest = max(float(np.abs(wanted).max()) for wanted in expected.values())
    agreements = [one.agreement for one in compared if one.agreement is not None]
    result = Parity(
        samples=worst.samples,
        cosine=worst.cosine,
        lowest_cosine=min(one.lowest_cosine for one in compared),
        max_abs_difference=max(one.max_abs_difference for one in compared),
        agreement=min(agreements) if agreements else None,
    )
    if precision == "fp32" and not result.max_abs_difference <= 1e-3 * max(largest, 1e-6):
        raise StageError(
            f"the written file differs from the network: largest difference {result.max_abs_difference:.3g} on outputs up "
            f"to {largest:.3g}"
        )
    return result


def check_bytes(signature: Signature, dataset: Dataset) -> None:
    """Check that a network can be exported with its preprocessing inside.

    Raises:
        InputError: it has several inputs, no preprocessing is known, or the data are no unsigned bytes.
    """
    inside_preprocessing(signature)
    if dataset.inputs[signature.inputs[0].name].dtype != np.uint8:
        raise InputError('export.input = "uint8" needs data of unsigned bytes; these are floats')


def _samples(
    part: Part, signature: Signature, settings: ExportSettings, *, inside: bool
) -> tuple[dict[str, NDArray[Any]], str]:
    """Return self-check inputs: real ones where the licence is open or the user says so, else random ones."""
    open_licence = part.dataset.licence.strip() in OPEN_LICENCES
    name = signature.inputs[0].name
    if settings.include_samples or open_licence:
        chosen = part.take(SAMPLES)
        inputs = (chosen.raw() if inside else chosen).inputs()
        data = part.dataset
        return inputs, f"{data.origin.split(',')[0]} ({data.licence}; {data.provenance})"
    if inside:
        random = np.random.default_rng(0).integers(0, 256, signature.inputs[0].sized(SAMPLES))
        return {name: random.astype(np.uint8)}, "synthetic: random values"
    return signature.random_inputs(SAMPLES), "synthetic: random values"


def _preprocessing(signature: Signature, *, inside: bool) -> Preprocessing | None:
    made = signature.preprocessing
    return None if made is None else Preprocessing("NCHW", made.scale, made.mean, made.std, inside)
