"""What `profile` measured, a machine each: latency, energy, memory, a long run."""

from collections.abc import Sequence

from edgekd.report.page.blocks import Block, Cell, Head, Items, Plot, Section, Table, Text
from edgekd.report.page.numbers import decimals, shown, span
from edgekd.report.page.plots.lines import lines
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.evidence import (
    Batch,
    ColdStart,
    EndToEnd,
    EnergyOfProfile,
    Instructions,
    Profile,
    Sustained,
    Window,
)

Row = list[Cell] | None

_MINUTES_FROM_S = 180
_HEADS = (Head("figure", number=False), Head("value", "measured"), Head("95 % interval"), Head("samples"))


def boards(target: TargetContent) -> Section:
    """Return the section."""
    if not target.profiles:
        return Section(
            "On the board",
            [
                Text(
                    "No profile was given. `python3 run.pyz profile --json > FILE` on the board obtains one, `--with FILE` shows it here."
                )
            ],
        )
    return Section("Measured by profile", [block for profile in target.profiles for block in _machine(profile)])


def _machine(profile: Profile) -> list[Block]:
    session, machine = profile.session, profile.before
    on = (
        f"{machine.title}, {session.runtime} {session.version}, {session.provider}, threads {session.threads}, "
        f"batch {profile.batch}; {machine.time_utc}"
    )
    inside = profile.inside_runtime
    memory = _row("peak memory, MiB", profile.peak_memory_mib)
    rows = [
        *_times(profile),
        None if inside is None else _row("of p50 in the runtime, ms", inside.p50_ms, samples=inside.calls),
        *_cold_start(profile.cold_start),
        memory,
        *_energy(profile.energy),
        *_frames(profile.end_to_end),
        *_batches(profile.throughput),
    ]
    known = [row for row in rows if row is not None]
    blocks: list[Block] = [Table(on, _HEADS, known, width=32)] if known else []
    if profile.instructions is not None:
        blocks.append(_instructions(profile.instructions, on))
    blocks += [Text(reason) for reason in _absences(profile)]
    if profile.throughput_ended:
        blocks.append(Text(f"No larger batch was measured: {profile.throughput_ended}."))
    if profile.warnings:
        blocks.append(Items(profile.warnings))
    if profile.sustained is not None and profile.sustained.windows:
        blocks.append(_sustained(profile.sustained, machine.title))
    return blocks


def _times(profile: Profile) -> list[Row]:
    latency = profile.latency
    if latency is None:
        return []
    return [
        _row("latency p50, ms", latency.p50_ms, latency.p50_low_ms, latency.p50_high_ms, latency.n),
        _row("latency p90, ms", latency.p90_ms, samples=latency.n),
        _row("latency p95, ms", latency.p95_ms, latency.p95_low_ms, latency.p95_high_ms, latency.n),
        _row("latency p99, ms", latency.p99_ms, samples=latency.n),
        _row("shortest call, ms", latency.min_ms, samples=latency.n),
        _row("mean, ms", latency.mean_ms, latency.mean_low_ms, latency.mean_high_ms, latency.n),
        _row("longest call, ms", latency.max_ms, samples=latency.n),
        _row("standard deviation, ms", latency.std_ms, samples=latency.n),
        _row("CPU time of a call, ms", latency.cpu_ms, samples=latency.n),
    ]


def _cold_start(found: ColdStart | None) -> list[Row]:
    if found is None:
        return []
    return [
        _row("load time, ms", found.load_ms, samples=1),
        _row("first call, ms", found.first_call_ms, samples=1),
    ]


def _energy(energy: EnergyOfProfile | None) -> list[Row]:
    if energy is None:
        return []
    low, high, samples = energy.above_idle_low_mj, energy.above_idle_high_mj, energy.samples
    above = _row("above idle, mJ", energy.above_idle_mj, low, high, samples)
    if low <= 0 and above is not None:
        interval = Cell(span(low, high, decimals(max(-low, high))))
        above = [above[0], Cell("not distinguishable from rest"), interval, above[3]]
    return [
        _row("energy of a call, mJ", energy.total_mj, energy.total_low_mj, energy.total_high_mj, samples),
        above,
        _row("power while calls run, W", energy.busy_w),
        _row("power at rest, W", energy.idle_w),
    ]


def _frames(found: EndToEnd | None) -> list[Row]:
    if found is None:
        return []
    height, width, _ = found.frame
    whole = found.latency
    return [
        _row(
            f"from a frame of {width} x {height} to the decision, p50, ms",
            whole.p50_ms,
            whole.p50_low_ms,
            whole.p50_high_ms,
            whole.n,
        ),
        _row("of it preprocessing, ms", found.preprocess_p50_ms, samples=whole.n),
        _row("of it postprocessing, ms", found.postprocess_p50_ms, samples=whole.n),
        _row("frames a second", found.frames_per_second, samples=whole.n),
    ]


def _batches(found: Sequence[Batch] | None) -> list[Row]:
    return [_row(f"samples a second, batch {one.batch}", one.samples_per_second) for one in found or ()]


def _instructions(found: Instructions, on: str) -> Table:
    heads = (Head("figure", number=False), Head("value", found.how), Head("half of all calls"), Head("samples"))
    row = _row("instructions of a call", found.per_call, found.low, found.high, found.calls)
    assert row is not None
    return Table(f"Instructions, by {found.counter}: {on}", heads, [row], width=32)


def _absences(profile: Profile) -> list[str]:
    """Return a sentence for each figure that nobody obtained."""
    latency, energy = profile.latency, profile.energy
    if latency is None:
        return [f"Latency: absent: {profile.latency_absent}."]
    few = [name for name in ("p90", "p95", "p99") if getattr(latency, f"{name}_ms") is None]
    found = [f"{', '.join(few)}: absent: {latency.n:,} calls are too few."] if few else []
    if profile.peak_memory_mib is None:
        found.append("Peak memory: absent: this system does not tell it.")
    return [
        *found,
        f"Energy: {energy.covers}, by {energy.sensor}." if energy else f"Energy: absent: {profile.energy_absent}.",
    ]


def _row(
    title: str, value: float | None, low: float | None = None, high: float | None = None, samples: int | None = None
) -> Row:
    """Return a figure, or None where nobody obtained it."""
    if value is None:
        return None
    count = Cell("") if samples is None else Cell(f"{samples:,}", samples)
    return [Cell(title), Cell(shown(value), value), Cell(span(low, high, decimals(value))), count]


def _sustained(found: Sustained, machine: str) -> Plot:
    windows = found.windows
    quantities: dict[str, Sequence[float | None]] = {
        "p50, ms": [one.p50_ms for one in windows],
        "temperature, °C": [one.temperature_celsius for one in windows],
        "clock, MHz": [one.clock_mhz for one in windows],
    }
    known = {name: values for name, values in quantities.items() if any(value is not None for value in values)}
    unit, length = ("minutes", 60.0) if windows[-1].to_s >= _MINUTES_FROM_S else ("seconds", 1.0)
    ends = [one.to_s / length for one in windows]
    text = (
        f"p50 {shown(found.first_p50_ms)} ms in the first window, {shown(found.steady_p50_ms)} ms in the steady state "
        f"({found.slowdown_percent:+.1f} %)"
    )
    slowed = [one for one in windows if one.throttled]
    if slowed:
        text += f"; the firmware slowed it down in {len(slowed)} of {len(windows)} windows"
    heads = [
        Head("until", unit),
        Head("p50", "ms"),
        Head("p95", "ms"),
        Head("temperature", "°C"),
        Head("clock", "MHz"),
        Head("slowed down by firmware", number=False),
    ]
    body = [
        [Cell(f"{end:.1f}", end), Cell(shown(one.p50_ms), one.p50_ms), Cell(shown(one.p95_ms), one.p95_ms),
         _optional(one.temperature_celsius, 1), _optional(one.clock_mhz, 0), Cell(_throttling(one))]
        for end, one in zip(ends, windows, strict=True)
    ]  # fmt: skip
    numbers = Table("The numbers of this plot: every window", heads, body, folded=True)
    return Plot(lines(ends, unit, known, f"Long run: {text}"), f"A long run on {machine}: {text}.", numbers)


def _throttling(window: Window) -> str:
    return "not read" if window.throttled is None else ", ".join(window.throttled) or "no"


def _optional(value: float | None, places: int) -> Cell:
    return Cell("not read") if value is None else Cell(f"{value:,.{places}f}", value)
