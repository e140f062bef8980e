"""`report.json` as it is read: schema 1, as docs/report.md tells it; what the page does not show is left out here."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekd.figures import Figure


class Read(BaseModel):
    """Something read from a file: it cannot be changed, and fields that are not known are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ModelOfRun(Read):
    """The network that was given."""

    name: str
    format: str
    key: str


class DataOfRun(Read):
    """The data, and how many samples every part has."""

    origin: str
    provenance: str | None = None
    licence: str | None = None
    sha256: str
    parts: dict[str, int]
    labelled: bool


class MetricOfRun(Read):
    """How answers are judged."""

    name: str
    unit: str
    higher_is_better: bool


class Speedup(Read):
    """A paired ratio of latencies, above 1 is faster; without numbers where both are the same file."""

    verdict: str
    ratio: float = 1.0
    low: float | None = None
    high: float | None = None


class Comparison(Read):
    """A file against another one: the change of the score in the metric's unit, and the speed."""

    score: float
    speedup: Speedup


class Compared(Read):
    """Figures, and how they compare."""

    figures: dict[str, Figure]
    against_parent: Comparison | None = None
    against_baseline: Comparison | None = None


class StageOfRun(Compared):
    """A stage with the file that it left."""

    name: str
    key: str
    sha256: str
    notes: dict[str, Any] = {}


class FileOfArtifact(Read):
    """Hash and size of a file that goes to the device."""

    sha256: str
    bytes: int


class VerdictOfRun(Read):
    """A limit, its figure, and what came out."""

    limit: str
    allowed: float
    figure: Figure
    outcome: Literal["pass", "fail", "not distinguishable", "not measured"]


class RunReport(Read):
    """The report on one target."""

    schema_: Literal[1] = Field(alias="schema")
    edgekd: str
    model: ModelOfRun
    target: str
    runtime: str
    recipe: dict[str, Any]
    data: DataOfRun
    metric: MetricOfRun
    host: dict[str, Any]
    software: dict[str, str]
    stages: tuple[StageOfRun, ...] = Field(min_length=1)
    final: Compared
    on_target: dict[str, Figure]
    arms: dict[str, Figure]
    parity: dict[str, Any]
    artifact: dict[str, FileOfArtifact]
    budget: tuple[VerdictOfRun, ...]
    remarks: tuple[str, ...]
