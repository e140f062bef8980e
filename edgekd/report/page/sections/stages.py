"""Every stage against the one before it, as a table and as score against latency."""

from collections.abc import Callable
from functools import partial

from edgekd.figures import in_digits
from edgekd.report.page.blocks import Block, Cell, Head, Section, Table, Text
from edgekd.report.page.numbers import cell_of_way, figure_cell, label, span, ways_of
from edgekd.report.page.sections.against_latency import against_latency
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.run_report import Compared, Comparison, RunReport, StageOfRun

_FIGURES = ("score", "size_kb", "macs", "parameters", "zeros", "latency_p50_ms", "latency_p95_ms")
_SPARSE = 10  # % of zeros, from which on a network was masked

_OF_ONE_PROCESS = (
    "Intervals of times as fast are of rounds in one process and know too little of the spread between processes, a percent or "
    "two: `edgekd compare` times several."
)


def stages(target: TargetContent) -> Section:
    """Return the section."""
    report = target.report
    rows = rows_of(report)
    blocks: list[Block] = [_table(report, rows)]
    if len(rows) > 1:
        blocks.append(Text(_OF_ONE_PROCESS))
    unclear = any(
        one is not None and one.speedup.verdict == "not distinguishable"
        for _, stage in rows
        for one in (stage.against_parent, stage.against_baseline)
    )
    if unclear:
        blocks.append(Text("~ is not distinguishable from equally fast."))
    blocks += [*against_latency(report, rows), *_arms(report)]
    return Section("Stage by stage", blocks)


def _arms(report: RunReport) -> list[Block]:
    """Return what the same pipeline reaches without its teacher, and from scratch; or why that is not known."""
    known = {name: arm for name, arm in report.arms.items() if arm.value is not None}
    reasons: dict[str, list[str]] = {}
    for name, arm in report.arms.items():
        if arm.value is None:
            reasons.setdefault(arm.reason or "", []).append(name)
    blocks: list[Block] = [Text(f"The arms {' and '.join(names)}: {reason}.") for reason, names in reasons.items()]
    if known:
        score = report.final.figures["score"]
        rows = [[Cell(name), figure_cell("score", one)] for name, one in {"this run": score, **known}.items()]
        heads = [Head("arm", number=False), Head(report.metric.name, f"{score.unit}, measured")]
        blocks.append(Table("What distillation is worth: the same stages and epochs without it", heads, rows))
    return blocks


def rows_of(report: RunReport) -> list[tuple[str, Compared]]:
    """Return the stages, and the exported file where it is not that of the last stage."""
    rows: list[tuple[str, Compared]] = [(stage.name, stage) for stage in report.stages]
    last: StageOfRun = report.stages[-1]
    return rows if report.final.figures == last.figures else [*rows, ("exported", report.final)]


def _table(report: RunReport, rows: list[tuple[str, Compared]]) -> Table:
    """Return the table; figures that were obtained in different ways stand in columns of their own."""
    heads = [Head("stage", number=False)]
    columns: list[Callable[[Compared], Cell]] = []
    for name in _FIGURES:
        found = [stage.figures[name] for _, stage in rows if name in stage.figures]
        if not found or (name == "zeros" and all((one.value or 0) < _SPARSE for one in found)):
            continue
        ways = ways_of(found)
        for way in ways:
            heads.append(Head(label(name, report.metric.name), f"{found[0].unit}, {way}".removeprefix(", ")))
            columns.append(partial(_cell, name=name, way=way, ways=ways))
        if name == "score":
            heads.append(Head("change", f"{found[0].unit or 'from parent'}, from parent"))
            columns.append(partial(_change, unit=found[0].unit))
    for other in ("parent", "baseline"):
        heads.append(Head("times as fast", f"as {other}"))
        columns.append(partial(_speed, against=f"against_{other}"))
    body = [[Cell(name), *(column(stage) for column in columns)] for name, stage in rows]
    title = f"{report.model.name} for {report.target} with {report.runtime}: every stage, with 95 % intervals"
    return Table(title, heads, body, width=62)


def _cell(stage: Compared, name: str, way: str, ways: list[str]) -> Cell:
    figure = stage.figures.get(name)
    return Cell("") if figure is None else cell_of_way(name, figure, way, ways)


def _change(stage: Compared, unit: str) -> Cell:
    compared = stage.against_parent
    return Cell("") if compared is None else Cell(in_digits(compared.score, unit, "+"), compared.score)


def _speed(stage: Compared, against: str) -> Cell:
    compared: Comparison | None = getattr(stage, against)
    if compared is None:
        return Cell("")
    found = compared.speedup
    if found.low is None or found.high is None:
        return Cell(found.verdict)
    sign = "~" if found.verdict == "not distinguishable" else ""
    return Cell(f"{sign}{found.ratio:.2f}", found.ratio, span(found.low, found.high, 2))
