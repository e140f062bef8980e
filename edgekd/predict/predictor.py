"""A predictor: coefficients of one board, runtime and precision, the measurements they rest on, and where they hold.

It predicts nothing that its validation does not cover:

- every operator of the network occurs in the fitted ones, and its size lies in their range (times 1.25);
- of three families or more, its *profile* (which operators do its work) is as near to a fitted network as those were to
  the networks that predicted them when their family was left out;
- of fewer families nothing is known of others: a person says that the network is one of them;
- the interval comes from the errors of left-out families, or of left-out networks of that family. It is split conformal
  prediction with those errors (Lei et al., 2018), which says how many left-out networks lie in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekd.device.files import refuse_no_file
from edgekd.errors import InputError, StageError, device_errors_as
from edgekd.figures import Figure
from edgekd.files import write_json
from edgekd.predict.features import OPERATORS, Kernel, Operator, Width
from edgekd.predict.latency import SHAPE, TERMS, Coefficients, Times, Work, kernel_times
from edgekd.target import NAME_PATTERN, explain

SHIPPED = Path(__file__).parent / "coefficients"
FAMILIES_NEEDED = 3  # to say anything of a family that is not among them
_SLACK = 1.25
_VARIANT = 0.1  # of the work: what a variant of a family may give to other operators
_NEGLIGIBLE = 0.01  # of the time: an operator that was never fitted may take so much
_LEVEL = 0.9

Positive = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Exponent = Annotated[float, Field(ge=-4, le=4, allow_inf_nan=False)]
LONGEST_NAME = 200
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FittedNetwork(_Frozen):
    """A network that was measured: its size, its profile, and what was predicted when it, or its family, was left out."""

    model: Name
    family: Name
    macs: int = Field(ge=0)
    kernels: int = Field(ge=1)
    profile: dict[Operator, Annotated[float, Field(ge=0, le=1)]]
    measured_ms: Positive
    left_out_ms: Positive | None = None
    family_left_out_ms: Positive | None = None

    def error(self, *, family: bool) -> float | None:
        """Return the logarithm of measured over predicted when it, or its family, was left out."""
        predicted = self.family_left_out_ms if family else self.left_out_ms
        return None if predicted is None else math.log(self.measured_ms / predicted)


class Predictor(_Frozen):
    """What `coefficients/*.json` holds. `counted` says of which file its kernels are: of its own, or of the float file before it."""

    schema_: Literal[1] = Field(1, alias="schema")
    target: str = Field(pattern=NAME_PATTERN)
    runtime: str = Field(pattern=NAME_PATTERN)
    precision: Width
    harness: Name
    source: Name
    threads: int | None = Field(default=None, ge=1, le=1024)
    instructions: str | None = None
    basis: Literal["published", "measured"]
    counted: Literal["float file", "own file"]
    transferred_from: str | None = None
    exponent: float = Field(ge=1, le=16)
    whole: Positive = 1.0
    terms: dict[Operator, dict[Literal["call", "macs", "operations", "exponentials", "bytes"], Positive]]
    shape: dict[Operator, dict[Literal["inputs", "outputs", "positions"], Exponent]] = {}
    networks: tuple[FittedNetwork, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        missing = [
            f"{operator}.{term}" for operator in OPERATORS for term in TERMS if term not in self.terms.get(operator, {})
        ]
        if missing:
            raise ValueError(f"terms: {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''} missing")
        return self

    @property
    def name(self) -> str:
        """Return the name of its file."""
        threads = f".{self.threads}t" if self.threads else ""
        return f"{self.target}.{self.runtime}.{self.precision}.{self.harness}{threads}"

    @property
    def title(self) -> str:
        """Return in words what it is for."""
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.threads else ""
        return f"{self.target}, {self.runtime}, {self.precision}{threads}"

    @property
    def families(self) -> tuple[str, ...]:
        """Return the families that were fitted."""
        return tuple(dict.fromkeys(one.family for one in self.networks))

    def coefficients(self) -> Coefficients:
        """Return the coefficients as arrays."""
        terms = np.array([[self.terms[operator][term] for term in TERMS] for operator in OPERATORS])  # type: ignore[index]
        shape = np.array([[self.shape.get(operator, {}).get(one, 0.0) for one in SHAPE] for operator in OPERATORS])  # type: ignore[call-overload]
        return Coefficients(terms, shape, self.exponent, self.whole)

    def predict(self, kernels: Sequence[Kernel], family: str | None = None) -> "Prediction":
        """Predict the latency of a network at batch 1.

        Args:
            kernels: as `counted` says.
            family: one of its own, where a person knows better than the profile that the network is one of it.

        Raises:
            InputError: there is no such family.
            StageError: the network is out of the range of its validation; the message says why.
        """
        if family is not None and family not in self.families:
            raise InputError(f"--family {family}: {self.name} was fitted on {', '.join(self.families)}")
        if not kernels:
            raise StageError("nothing to predict: no node of this graph computes anything")
        times = kernel_times(Work.of(kernels), self.coefficients())
        reasons = self._out_of_range(kernels, times, family)
        errors, rests_on = self._errors(family)
        if not errors and not reasons:
            reasons = ["no network was left out, so no error is known"]
        if reasons:
            raise StageError(
                f"out of the range that {self.name} was validated in, so nothing is predicted: {'; '.join(reasons)}. "
                "`edgekd calibrate` fits coefficients to networks like yours"
            )
        place = min(math.ceil((len(errors) + 1) * _LEVEL), len(errors))
        ms, spread = float(times.total.sum()) / 1e3, math.exp(errors[place - 1])
        level = min(_LEVEL, len(errors) / (len(errors) + 1))
        error = float(np.median(np.expm1(errors)))
        return Prediction(ms, ms / spread, ms * spread, level, error, rests_on, tuple(kernels), times)

    def _out_of_range(self, kernels: Sequence[Kernel], times: Times, family: str | None) -> list[str]:
        """Return why a network is out of the range that was validated; nothing where it is not."""
        reasons = []
        fitted = [one for one in self.networks if family in (None, one.family)]
        own = profile(kernels)
        seen = {operator for one in self.networks for operator, share in one.profile.items() if share > 0}
        total = float(times.total.sum())
        for operator in sorted(set(own) - seen):
            taken = sum(time for one, time in zip(kernels, times.total, strict=True) if one.operator == operator)
            if taken > _NEGLIGIBLE * total:
                reasons.append(f"no fitted network has {operator} operators")
        for what, value, known in (
            ("multiply-accumulates", sum(one.macs for one in kernels), [one.macs for one in fitted]),
            ("kernels", len(kernels), [one.kernels for one in fitted]),
        ):
            if not min(known) / _SLACK <= value <= max(known) * _SLACK:
                reasons.append(f"{value:,} {what}, fitted networks have {min(known):,} to {max(known):,}")
        nearest = min(fitted, key=lambda one: distance(own, one.profile))
        far = distance(own, nearest.profile)
        if self.across_families:
            most = max(self._distance_to_others(one) for one in self.networks)
        elif family is None:
            return [
                *reasons,
                f"only {' and '.join(self.families)} {'were' if len(self.families) > 1 else 'was'} fitted, too few to speak of other families; "
                f"if yours is one of that family, say --family (nearest: {nearest.model}, {100 * far:.0f} % of the work is shared otherwise)",
            ]
        else:
            most = _VARIANT
        if far > most:
            reasons.append(
                f"its operators share the work in another way: {100 * far:.0f} % differ from the nearest, {nearest.model}; "
                f"validated up to {100 * most:.0f} %"
            )
        return reasons

    @property
    def across_families(self) -> bool:
        """Return whether families were left out, so that something is known of others."""
        return len(self.families) >= FAMILIES_NEEDED

    def _distance_to_others(self, network: FittedNetwork) -> float:
        """Return how far a network is from the nearest one of another family, which predicted it when its own was left out."""
        return min(distance(network.profile, one.profile) for one in self.networks if one.family != network.family)

    def _errors(self, family: str | None) -> tuple[list[float], str]:
        """Return the errors that the interval rests on, as absolute logarithms, and in words whose they are."""
        if family is None:
            found = [abs(error) for one in self.networks if (error := one.error(family=True)) is not None]
            return sorted(
                found
            ), f"{len(found)} networks of {len(self.families)} families, each family left out in turn"
        of = self.networks if self.across_families else [one for one in self.networks if one.family == family]
        found = [abs(error) for one in of if (error := one.error(family=False)) is not None]
        names = ", ".join(dict.fromkeys(one.family for one in of))
        return sorted(found), f"{len(found)} networks of {names}, each left out in turn"

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self.model_dump(mode="json", by_alias=True, exclude_none=True))


@dataclass(frozen=True)
class Prediction:
    """A predicted latency in ms with its interval: `level` of left-out networks lay in it. `error` is their median, relative."""

    ms: float
    low_ms: float
    high_ms: float
    level: float
    error: float
    rests_on: str
    kernels: tuple[Kernel, ...]
    times: Times

    def figure(self, predictor: Predictor) -> Figure:
        """Return it as the figure p50, predicted."""
        return Figure("ms", self.ms, "predicted", f"{predictor.title}, by {predictor.name}", self.low_ms, self.high_ms)

    @property
    def bound(self) -> Literal["overhead", "compute", "memory"]:
        """Return what most of the time goes into: starting kernels, computing, or moving data."""
        parts: dict[Literal["overhead", "compute", "memory"], float] = {
            "overhead": float(self.times.overhead.sum()),
            "compute": float(self.times.compute.sum()),
            "memory": float(self.times.memory.sum()),
        }
        return max(parts, key=lambda part: parts[part])


def profile(kernels: Sequence[Kernel]) -> dict[Operator, float]:
    """Return how the operators share the work: the mean of their shares in multiply-accumulates and in bytes."""
    macs, moved = (max(sum(getattr(one, what) for one in kernels), 1) for what in ("macs", "bytes"))
    shares: dict[Operator, float] = {}
    for one in kernels:
        shares[one.operator] = shares.get(one.operator, 0.0) + (one.macs / macs + one.bytes / moved) / 2
    return {operator: round(min(share, 1.0), 4) for operator, share in shares.items()}


def distance(one: dict[Operator, float], other: dict[Operator, float]) -> float:
    """Return how much of the work two profiles give to different operators, 0 to 1 (total variation)."""
    return sum(abs(one.get(operator, 0.0) - other.get(operator, 0.0)) for operator in {*one, *other}) / 2


def read_predictor(path: Path) -> Predictor:
    """Read and check coefficients.

    Raises:
        InputError: the file cannot be read, is no JSON, of another schema, or a field is wrong.
    """
    with device_errors_as(InputError):
        refuse_no_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"cannot read the coefficients {path}: {reason}") from error
    try:
        return Predictor.model_validate_json(text, strict=False)
    except ValidationError as error:
        raise InputError(f"{path} holds no coefficients of edgekd: {explain(error)}") from error


def shipped_predictors() -> dict[str, Predictor]:
    """Return the predictors that come with edgekd, by name, sorted."""
    return {path.stem: read_predictor(path) for path in sorted(SHIPPED.glob("*.json"))}


def find_predictor(
    target: str, runtime: str | None, precision: str, threads: int | None = None, default_runtime: str | None = None
) -> Predictor:
    """Return the shipped predictor for a target; where the runtime is left open, that of its default one comes first.

    Raises:
        InputError: several fit, so that one must be named.
        StageError: none does; the message says which exist and how to make one.
    """
    known = shipped_predictors()
    of_target = [one for one in known.values() if one.target == target]
    found = [
        one
        for one in of_target
        if one.precision == precision
        and runtime in (None, one.runtime)
        and (None in (threads, one.threads) or threads == one.threads)
    ]
    found = [one for one in found if one.runtime == default_runtime] or found
    if len(found) > 1:
        raise InputError(
            f"several coefficients are for {target} in {precision}; choose by --runtime and --threads, or name one with --coefficients: {', '.join(one.name for one in found)}"
        )
    if found:
        return found[0]
    wanted = f"{target}, {runtime + ', ' if runtime else ''}{precision}"
    others = [one.name for one in of_target] or sorted({one.target for one in known.values()})
    have = f"for {target} there are {', '.join(others)}" if of_target else f"there are some for {', '.join(others)}"
    raise StageError(
        f"nothing to predict {wanted} from: {have}. Measure a few networks on the board and fit coefficients: "
        "edgekd calibrate FIGURES.csv --target TARGET -o coefficients.json"
    )


def to_json(coefficients: Coefficients) -> dict[str, Any]:
    """Return the fields of a `Predictor` that hold coefficients, in four digits."""
    terms = {
        operator: {term: float(f"{value:.4g}") for term, value in zip(TERMS, row, strict=True)}
        for operator, row in zip(OPERATORS, coefficients.terms, strict=True)
    }
    shape = {
        operator: {name: round(float(value), 4) for name, value in zip(SHAPE, row, strict=True) if abs(value) >= 5e-5}
        for operator, row in zip(OPERATORS, coefficients.shape, strict=True)
        if np.any(np.abs(row) >= 5e-5)
    }
    return {
        "terms": terms,
        "shape": shape,
        "exponent": coefficients.exponent,
        "whole": float(f"{coefficients.whole:.5g}"),
    }
