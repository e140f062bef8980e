"""What `profile` measured, a machine each: latency, energy, memory, a long run."""

from collections.abc import Sequence

from edgekd.report.page.blocks import Block, Cell, Head, Items, Plot, Section, Table, Text
from edgekd.report.page.numbers import decimals, shown, span
from edgekd.report.page.plots.lines import lines
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.evidence import Profile, Sustained

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
    latency, energy = profile.latency, profile.energy
    rows = [
        _row("latency p50, ms", latency.p50_ms, latency.p50_low_ms, latency.p50_high_ms, latency.n),
        _row("latency p90, ms", latency.p90_ms, None, None, latency.n),
        _row("latency p95, ms", latency.p95_ms, latency.p95_low_ms, latency.p95_high_ms, latency.n),
        _row("latency p99, ms", latency.p99_ms, None, None, latency.n),
        _row("peak memory, MiB", profile.peak_memory_mib, None, None, None),
    ]
    if energy is not None:
        rows += [
            _row("energy of a call, mJ", energy.total_mj, energy.total_low_mj, energy.total_high_mj, energy.samples),
            _row(
                "above idle, mJ",
                energy.above_idle_mj,
                energy.above_idle_low_mj,
                energy.above_idle_high_mj,
                energy.samples,
            ),
        ]
    blocks: list[Block] = [Table(on, _HEADS, [row for row in rows if row is not None], width=32)]
    absent = [name for name in ("p90", "p95", "p99") if getattr(latency, f"{name}_ms") is None]
    if absent:
        blocks.append(Text(f"{', '.join(absent)}: absent: {latency.n:,} calls are too few."))
    if profile.peak_memory_mib is None:
        blocks.append(Text("Peak memory: absent: edgekd itself was in the process; `run.pyz profile` measures it."))
    blocks.append(
        Text(f"Energy: {energy.covers}, by {energy.sensor}." if energy else f"Energy: absent: {profile.energy_absent}.")
    )
    if profile.warnings:
        blocks.append(Items(profile.warnings))
    if profile.sustained is not None and profile.sustained.windows:
        blocks.append(_sustained(profile.sustained, machine.title))
    return blocks


def _row(
    title: str, value: float | None, low: float | None, high: float | None, samples: int | None
) -> list[Cell] | None:
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
    heads = [
        Head("until", unit),
        Head("p50", "ms"),
        Head("p95", "ms"),
        Head("temperature", "°C"),
        Head("clock", "MHz"),
    ]
    body = [
        [Cell(f"{end:.1f}", end), Cell(shown(one.p50_ms), one.p50_ms), Cell(shown(one.p95_ms), one.p95_ms),
         _optional(one.temperature_celsius, 1), _optional(one.clock_mhz, 0)]
        for end, one in zip(ends, windows, strict=True)
    ]  # fmt: skip
    numbers = Table("The numbers of this plot: every window", heads, body, folded=True)
    return Plot(lines(ends, unit, known, f"Long run: {text}"), f"A long run on {machine}: {text}.", numbers)


def _optional(value: float | None, places: int) -> Cell:
    return Cell("not read") if value is None else Cell(f"{value:,.{places}f}", value)
