"""What other commands tell of an artifact with `--json`: profile, diagnose, and inspect --sensitivity."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from edgekd.errors import InputError
from edgekd.verbs.report.reading import checked, read_object
from edgekd.verbs.report.run_report import Read

Milliseconds = Annotated[float, Field(ge=0, le=1e9)]  # up to days: what is beyond is no measurement
Quantity = Annotated[float, Field(ge=0, le=1e15)]
Change = Annotated[float, Field(ge=-1e15, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**15)]


class Node(Read):
    """A node that ran: median time in microseconds, and the element type that it computed with."""

    name: str
    operator: str
    time_us: Quantity
    share: Quantity
    dtype: str | None = None


class LayerTimes(Read):
    """The nodes that ran, in their order, and the share of time in integers and in rounding and layout."""

    total_us: Quantity
    integer_share: Quantity
    conversion_share: Quantity
    nodes: tuple[Node, ...] = Field(min_length=1)


class Identity(Read):
    """What was measured."""

    name: str
    precision: str
    sha256: str


class RuntimeOfProfile(Read):
    """What ran it."""

    runtime: str
    version: str
    provider: str
    threads: str


class LatencyOfProfile(Read):
    """Latency in milliseconds, as `edgekd.device.latency.Latency` has it."""

    n: Count
    p50_ms: Milliseconds
    p50_low_ms: Milliseconds | None = None
    p50_high_ms: Milliseconds | None = None
    p90_ms: Milliseconds | None = None
    p95_ms: Milliseconds | None = None
    p95_low_ms: Milliseconds | None = None
    p95_high_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    min_ms: Milliseconds | None = None
    mean_ms: Milliseconds | None = None
    mean_low_ms: Milliseconds | None = None
    mean_high_ms: Milliseconds | None = None
    max_ms: Milliseconds | None = None
    std_ms: Milliseconds | None = None
    cpu_ms: Milliseconds | None = None


class ColdStart(Read):
    """What the first answer takes: to open the model, and the first call."""

    load_ms: Milliseconds | None = None
    first_call_ms: Milliseconds | None = None


class EndToEnd(Read):
    """From a frame of bytes to the decision; medians of its parts in milliseconds, and the whole."""

    frame: tuple[int, int, int]
    preprocess_p50_ms: Milliseconds
    runtime_p50_ms: Milliseconds
    postprocess_p50_ms: Milliseconds
    latency: LatencyOfProfile
    frames_per_second: Quantity


class Batch(Read):
    """Several samples in a call."""

    batch: Count
    p50_ms: Milliseconds
    samples_per_second: Quantity


class Inside(Read):
    """What of p50 the runtime takes by its own clock."""

    p50_ms: Milliseconds
    calls: Count


class Instructions(Read):
    """Instructions of a call: the median, and between what half of all calls lie."""

    per_call: Quantity
    low: Quantity
    high: Quantity
    calls: Count
    counter: str
    how: str


class EnergyOfProfile(Read):
    """Energy of a call in millijoules, and power in watts, as `edgekd.device.energy.Energy` has them."""

    sensor: str
    covers: str
    samples: Count
    idle_w: Quantity | None = None
    busy_w: Quantity | None = None
    total_mj: Quantity
    total_low_mj: Change
    total_high_mj: Change
    above_idle_mj: Change
    above_idle_low_mj: Change
    above_idle_high_mj: Change


class Window(Read):
    """One of the windows of a long run; `to_s` is its end."""

    to_s: Quantity
    p50_ms: Milliseconds
    p95_ms: Milliseconds
    temperature_celsius: Change | None = None
    clock_mhz: Quantity | None = None
    throttled: tuple[str, ...] | None = None


class Sustained(Read):
    """A long run."""

    windows: tuple[Window, ...]
    first_p50_ms: Milliseconds
    steady_p50_ms: Milliseconds
    slowdown_percent: Change


class MachineOfProfile(Read):
    """Where it was measured, and when."""

    time_utc: str
    architecture: str
    board: str | None = None
    cpu_model: str | None = None
    int8_isa: str | None = None
    governor: str | None = None

    @property
    def title(self) -> str:
        """Return what to call the machine."""
        return self.board or self.cpu_model or self.architecture


class Profile(Read):
    """The output of `edgekd profile --json`, or of `run.pyz profile --json` on a board."""

    artifact: Identity
    session: RuntimeOfProfile
    batch: Count
    latency: LatencyOfProfile | None = None
    latency_absent: str | None = None
    end_to_end: EndToEnd | None = None
    inside_runtime: Inside | None = None
    cold_start: ColdStart | None = None
    throughput: tuple[Batch, ...] | None = None
    throughput_ended: str | None = None
    instructions: Instructions | None = None
    peak_memory_mib: Quantity | None = None
    energy: EnergyOfProfile | None = None
    energy_absent: str | None = None
    layers: LayerTimes | None = None
    sustained: Sustained | None = None
    warnings: tuple[str, ...] = ()
    before: MachineOfProfile


class RoundedLayer(Read):
    """A layer by `diagnose`: its share of the rounding noise, and the score with it alone rounded."""

    name: str
    operator: str
    noise: float
    alone_score: float
    alone_sqnr_db: float
    macs: float
    advice: str = ""


class LayerNoise(Read):
    """The output of `edgekd diagnose --json`."""

    sha256: str
    data: str
    samples: Count
    metric: str
    unit: str
    float_score: float
    score: float
    sqnr_db: float
    layers: tuple[RoundedLayer, ...] = Field(min_length=1)


class NamedGroup(Read):
    """A group of channels that go together, by the layer that names it."""

    root: str
    channels: int


class CutGroup(Read):
    """What a group is worth: the share of multiply-accumulates that its cut saves, the score then; None: it cannot be cut."""

    group: NamedGroup
    cut: int
    macs: float | None = None
    score: float | None = None
    drop: float | None = None


class ChannelSensitivity(Read):
    """What `edgekd inspect --sensitivity --json` has under `sensitivity`."""

    metric: str
    unit: str
    samples: Count
    granularity: int
    score: float
    groups: tuple[CutGroup, ...]


class Inspected(Read):
    """The output of `edgekd inspect --sensitivity --json`."""

    name: str
    sensitivity: ChannelSensitivity


Evidence = Profile | LayerNoise | Inspected


def read_evidence(path: Path) -> Evidence:
    """Read a file and find out, by its fields, which command wrote it.

    Raises:
        InputError: no command that is known here wrote it, or a field is missing or wrong.
    """
    content = read_object(path)
    where = str(path)
    if "latency" in content and "session" in content:
        return checked(Profile, content, where)
    if "sqnr_db" in content and "kernels" in content:
        return checked(LayerNoise, content, where)
    if content.get("sensitivity"):
        return checked(Inspected, content, where)
    raise InputError(
        f"{path} is none of what a report can take in: the output of `edgekd profile --json`, `run.pyz profile --json`, "
        "`edgekd diagnose --json` or `edgekd inspect --sensitivity --json`"
    )
