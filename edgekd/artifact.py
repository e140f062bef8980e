"""The artifact: the folder that goes to the device, with the device half that runs it, and its parity check."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgekd
from edgekd.context import Context
from edgekd.data import Part
from edgekd.device.batches import run_all
from edgekd.device.errors import DeviceError
from edgekd.device.manifest import FileEntry, Manifest, Preprocessing, SelfCheckSpec, write_manifest
from edgekd.device.pack import write_pyz
from edgekd.device.runtimes import open_session
from edgekd.device.runtimes.session import TensorInfo
from edgekd.device.selfcheck import Samples, compare_output, write_samples
from edgekd.errors import StageError
from edgekd.files import folder_in_one_step
from edgekd.models.signature import Signature
from edgekd.recipe import ExportSettings
from edgekd.stages.export import EXPORTERS

SAMPLES = 16
# SPDX identifiers of licences that let samples be given away with no more than their origin named.
OPEN_LICENCES = (
    *(
        "MIT",
        "Apache-2.0",
        "ISC",
        "0BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "Unlicense",
        "PDDL-1.0",
        "CC0-1.0",
        "CC-PDDC",
    ),
    *("CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0", "CC-BY-4.0", "CDLA-Permissive-2.0"),
)
# An int8 file differs a little between instruction sets (x86 without VNNI saturates), so a board may differ a little too.
COSINE = {"int8": 0.98, "fp16": 0.999, "fp32": 0.9999}
AGREEMENT = {"int8": 0.8, "fp16": 0.95, "fp32": 0.99}


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
    precision: str,
    signature: Signature,
    settings: ExportSettings,
    context: Context,
) -> Manifest:
    """Write the artifact in one step; whatever stood there before is replaced only when all is well.

    Raises:
        StageError: the written file does not run, or does not do what its manifest says.
    """
    exporter = EXPORTERS[context.runtime_name]
    with folder_in_one_step(folder) as partial:
        model = exporter.write(source, signature, settings, partial)
        inside = settings.input == "uint8"
        inputs, origin = _samples(context.parts.evaluation, signature, settings, inside=inside)
        try:
            outputs = run_all(open_session(context.runtime_name, model, 1), inputs)
            write_samples(partial / "samples.npz", Samples(inputs, outputs))
            write_pyz(partial / "run.pyz")
            manifest = Manifest(
                edgekd=edgekd.__version__,
                name=name,
                task=signature.task,
                labels=signature.labels,
                target=context.target.name,
                runtime=context.runtime_name,
                precision=precision,
                model_file=model.name,
                files={path.name: FileEntry.of(path) for path in sorted(partial.iterdir())},
                inputs=tuple(
                    TensorInfo(spec.name, spec.shape, "uint8" if inside else spec.dtype) for spec in signature.inputs
                ),
                outputs=tuple(TensorInfo(spec.name, spec.shape, spec.dtype) for spec in signature.outputs),
                preprocessing=_preprocessing(signature, inside=inside),
                selfcheck=SelfCheckSpec("samples.npz", origin, AGREEMENT[precision], COSINE[precision]),
                versions=exporter.requirements,
            )
            write_manifest(partial, manifest)
        except DeviceError as error:
            raise StageError(f"the exported file does not pass its own check: {error}") from error
    return manifest


def parity(
    written: Path, runtime: str, expected: dict[str, NDArray[Any]], inputs: dict[str, NDArray[Any]], precision: str
) -> Parity:
    """Load the written file in its runtime and compare its outputs with the network's on real inputs.

    Raises:
        StageError: a float file differs from the network by more than 1e-3 of its largest output.
    """
    session = open_session(runtime, written, 1)
    rows = [
        session.run({name: array[i : i + 1] for name, array in inputs.items()})
        for i in range(len(next(iter(inputs.values()))))
    ]
    compared = [
        compare_output(name, np.concatenate([row[name] for row in rows]), wanted) for name, wanted in expected.items()
    ]
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


def _samples(
    part: Part, signature: Signature, settings: ExportSettings, *, inside: bool
) -> tuple[dict[str, NDArray[Any]], str]:
    """Return self-check inputs: real ones where the licence is open or the user says so, else random ones."""
    open_licence = part.dataset.licence.strip() in OPEN_LICENCES
    name = signature.inputs[0].name
    if settings.include_samples or open_licence:
        chosen = part.take(SAMPLES)
        raw = part.dataset.inputs[name][chosen.indices]
        if inside and raw.dtype != np.uint8:
            raise StageError('export.input = "uint8" needs data of unsigned bytes')
        return (
            {name: raw} if inside else chosen.inputs()
        ), f"{part.dataset.origin.split(',')[0]} ({part.dataset.licence}; {part.dataset.provenance})"
    if inside:
        random = np.random.default_rng(0).integers(0, 256, signature.inputs[0].sized(SAMPLES))
        return {name: random.astype(np.uint8)}, "synthetic: random values"
    return signature.random_inputs(SAMPLES), "synthetic: random values"


def _preprocessing(signature: Signature, *, inside: bool) -> Preprocessing | None:
    made = signature.preprocessing
    return None if made is None else Preprocessing("NCHW", made.scale, made.mean, made.std, inside)
