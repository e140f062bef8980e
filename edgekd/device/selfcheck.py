"""The self-check: does this machine compute what the host computed, on the samples that travel with the model?

The samples file is a `.npz` with one array `input.<name>` an input and `output.<name>` an output, samples along axis 0.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Array, read_arrays, write_arrays
from .batches import run_all
from .errors import CheckFailed, DeviceError
from .manifest import Manifest
from .postprocessing import CLASS_AXIS
from .runtimes.session import Session


@dataclass(frozen=True)
class Samples:
    """Inputs by name and the outputs that belong to them."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True)
class OutputComparison:
    """One output against its reference.

    `cosine` is the mean over the samples, each flattened, and `lowest_cosine` the worst sample's. `agreement` is the
    share of equal argmaxes over the classes; None without at least two of them. Values that are not finite make all of
    them not a number.
    """

    name: str
    samples: int
    cosine: float
    lowest_cosine: float
    max_abs_difference: float
    agreement: float | None


@dataclass(frozen=True)
class SelfCheck:
    """The result: passed, or the reasons why not."""

    outputs: tuple[OutputComparison, ...]
    origin: str
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every output reached the manifest's limits."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"passed": self.passed, **asdict(self)}


def write_samples(path: Path, samples: Samples) -> None:
    """Write a samples file."""
    arrays = {f"input.{name}": array for name, array in samples.inputs.items()}
    arrays.update({f"output.{name}": array for name, array in samples.outputs.items()})
    write_arrays(path, arrays)


def read_samples(path: Path, manifest: Manifest) -> Samples:
    """Read a samples file.

    Raises:
        DeviceError: It is damaged, or its arrays are not the model's inputs and outputs.
    """
    arrays = read_arrays(path)
    inputs = {info.name: f"input.{info.name}" for info in manifest.inputs}
    outputs = {info.name: f"output.{info.name}" for info in manifest.outputs}
    expected = {*inputs.values(), *outputs.values()}
    if arrays.keys() != expected:
        raise DeviceError(f"{path.name} holds {sorted(arrays)}, expected {sorted(expected)}")
    if any(array.ndim == 0 or array.shape[0] == 0 for array in arrays.values()):
        raise DeviceError(f"{path.name} holds no samples")
    return Samples(
        {name: arrays[key] for name, key in inputs.items()}, {name: arrays[key] for name, key in outputs.items()}
    )


def check(session: Session, samples: Samples, manifest: Manifest) -> SelfCheck:
    """Run the samples and hold the outputs against the manifest's limits.

    Raises:
        DeviceError: The runtime refuses the samples.
        CheckFailed: An output has another shape than its reference.
    """
    results = run_all(session, samples.inputs)
    axis = CLASS_AXIS.get(manifest.task)  # without one, the cosine alone is compared
    comparisons = tuple(compare_output(name, results[name], wanted, axis) for name, wanted in samples.outputs.items())
    limits = manifest.selfcheck
    failures = []
    for one in comparisons:
        if not one.cosine >= limits.cosine:  # also when it is not a number
            failures.append(f"{one.name}: cosine similarity {one.cosine:.6f} is below {limits.cosine:g}")
        limit = limits.agreement
        if limit is not None and one.agreement is not None and not one.agreement >= limit:
            failures.append(f"{one.name}: agreement {one.agreement:.4f} is below {limit:g}")
    return SelfCheck(comparisons, limits.origin, tuple(failures))


def compare_output(name: str, actual: Array, expected: Array, class_axis: int | None = 1) -> OutputComparison:
    """Compare one output with its reference; also how the host sets the limits.

    Args:
        name: Of the output.
        actual: What this machine computed.
        expected: The reference.
        class_axis: The axis of the classes; None for an output without any.

    Raises:
        CheckFailed: The shapes differ.
    """
    if actual.shape != expected.shape:
        raise CheckFailed(f"output {name!r} has shape {list(actual.shape)}, its reference {list(expected.shape)}")
    samples = expected.shape[0] if expected.ndim else 1
    one, other = actual.astype(np.float64), expected.astype(np.float64)
    agreement = None
    if class_axis is not None and expected.ndim >= 2 and expected.shape[class_axis] > 1:
        agreement = float(np.mean(one.argmax(axis=class_axis) == other.argmax(axis=class_axis)))
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        nan = float("nan")
        return OutputComparison(name, samples, nan, nan, nan, None if agreement is None else nan)
    # one value a sample has no direction: such an output is compared as one vector
    rows = samples if expected.size > samples else 1
    cosines = _cosines(one.reshape(rows, -1), other.reshape(rows, -1))
    return OutputComparison(
        name,
        samples,
        cosine=float(cosines.mean()),
        lowest_cosine=float(cosines.min()),
        max_abs_difference=float(np.abs(one - other).max(initial=0.0)),
        agreement=agreement,
    )


def _cosines(one: Array, other: Array) -> Array:
    """Return each row's cosine similarity; 1 where both rows are zero, 0 where only one is."""
    norms, other_norms = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    product = norms * other_norms
    similarity = np.einsum("ij,ij->i", one, other) / np.where(product > 0, product, 1.0)
    both_zero = (norms == 0) & (other_norms == 0)
    cosines: Array = np.where(both_zero, 1.0, np.clip(similarity, -1.0, 1.0))
    return cosines
