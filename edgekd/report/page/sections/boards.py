"""What `profile` measured, a machine each: latency, energy, memory, a long run."""

from collections.abc import Sequence

from edgekd.report.page.blocks import Block, Cell, Head, Items, Plot, Section, Table, Text
from edgekd.report.page.numbers import ABSENT, decimals, shown, span
from edgekd.report.page.plots.lines import lines
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.evidence import Profile, Sustained

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
    on = f"{machine.title}, {session.runtime} {session.version}, {session.provider}, threads {session.threads}, batch {profile.batch}"
    rows = [_latency(profile, name) for name in ("p50", "p90", "p95", "p99")]
    rows.append(_row("peak memory, MiB", profile.peak_memory_mib, "not known: edgekd itself was in this process"))
    energy = profile.energy
    if energy is None:
        rows.append([Cell("energy of a call, mJ"), Cell(ABSENT, below=profile.energy_absent or ""), Cell(""), Cell("")])
    else:
        for name in ("total", "above_idle"):
            value, low, high = (getattr(energy, f"{name}{end}_mj") for end in ("", "_low", "_high"))
            title = f"energy of a call{', above idle' if name == 'above_idle' else ''}, mJ ({energy.covers}, by {energy.sensor})"
            rows.append(
                [
                    Cell(title),
                    Cell(shown(value), value),
                    Cell(span(low, high, decimals(value))),
                    Cell(f"{energy.samples:,}", energy.samples),
                ]
            )
    blocks: list[Block] = [Table(f"{on}; {machine.time_utc}", _HEADS, rows, width=36)]
    if profile.warnings:
        blocks.append(Items(profile.warnings))
    if profile.sustained is not None and profile.sustained.windows:
        blocks.append(_sustained(profile.sustained, machine.title))
    return blocks


def _latency(profile: Profile, name: str) -> list[Cell]:
    found = profile.latency
    value = getattr(found, f"{name}_ms")
    low, high = getattr(found, f"{name}_low_ms", None), getattr(found, f"{name}_high_ms", None)
    if value is None:
        return _row(f"latency {name}, ms", None, "too few calls")
    return [
        Cell(f"latency {name}, ms"),
        Cell(shown(value), value),
        Cell(span(low, high, decimals(value))),
        Cell(f"{found.n:,}", found.n),
    ]


def _row(title: str, value: float | None, absent: str) -> list[Cell]:
    cell = Cell(ABSENT, below=absent) if value is None else Cell(shown(value), value)
    return [Cell(title), cell, Cell(""), Cell("")]


def _sustained(found: Sustained, machine: str) -> Plot:
    windows = found.windows
    quantities: dict[str, Sequence[float | None]] = {
        "p50, ms": [one.p50_ms for one in windows],
        "temperature, °C": [one.temperature_celsius for one in windows],
        "clock, MHz": [one.clock_mhz for one in windows],
    }
    known = {name: values for name, values in quantities.items() if any(value is not None for value in values)}
    minutes = [one.to_s / 60 for one in windows]
    text = (
        f"p50 {shown(found.first_p50_ms)} ms in the first window, {shown(found.steady_p50_ms)} ms in the steady state "
        f"({found.slowdown_percent:+.1f} %)"
    )
    heads = [
        Head("until", "minutes"),
        Head("p50", "ms"),
        Head("p95", "ms"),
        Head("temperature", "°C"),
        Head("clock", "MHz"),
    ]
    body = [
        [Cell(f"{one.to_s / 60:.1f}", one.to_s / 60), Cell(shown(one.p50_ms), one.p50_ms), Cell(shown(one.p95_ms), one.p95_ms),
         _optional(one.temperature_celsius, 1), _optional(one.clock_mhz, 0)]
        for one in windows
    ]  # fmt: skip
    numbers = Table("The numbers of this plot: every window", heads, body, folded=True)
    return Plot(lines(minutes, known, f"Long run: {text}"), f"A long run on {machine}: {text}.", numbers)


def _optional(value: float | None, places: int) -> Cell:
    return Cell("not read") if value is None else Cell(f"{value:,.{places}f}", value)
