"""What came out: before and after, the budget, and what to know beside the figures."""

from edgekd.figures import Figure, in_digits
from edgekd.report.page.blocks import Block, Cell, Facts, Head, Items, Section, Table, Text
from edgekd.report.page.numbers import ABSENT, cell_of_way, figure_text, label, shown, span, ways_of
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.run_report import Comparison, RunReport, VerdictOfRun


def summary(target: TargetContent) -> Section:
    """Return the section."""
    report = target.report
    blocks: list[Block] = [Facts(_before_and_after(report), large=True), Text(_measured_on(report))]
    blocks.append(_of_the_board(report))
    blocks.append(_budget(report) if report.budget else Text("No budget was set."))
    if report.remarks:
        blocks += [Text("What to know beside the figures:"), Items(report.remarks)]
    return Section("What came out", blocks)


def _before_and_after(report: RunReport) -> list[tuple[str, Cell]]:
    before, after = report.stages[0].figures, report.final.figures
    rows = [
        _score(report),
        _smaller("size", "size_kb", before, after),
        _smaller("MACs", "macs", before, after),
        _latency(report),
    ]
    return [row for row in rows if row is not None]


def _score(report: RunReport) -> tuple[str, Cell] | None:
    before, after = report.stages[0].figures.get("score"), report.final.figures.get("score")
    if before is None or after is None or before.value is None or after.value is None:
        return None
    unit = f" {after.unit}".rstrip()
    change = (
        "" if report.final.against_baseline is None else in_digits(report.final.against_baseline.score, after.unit, "+")
    )
    below = f"{change} against {in_digits(before.value, before.unit)}{unit}" if change else ""
    return report.metric.name, Cell(in_digits(after.value, after.unit) + unit, after.value, below)


def _smaller(name: str, figure: str, before: dict[str, Figure], after: dict[str, Figure]) -> tuple[str, Cell] | None:
    first, last = before.get(figure), after.get(figure)
    if first is None or last is None or not first.value or not last.value:
        return None
    unit, factor = (" M", 1e6) if figure == "macs" else (" kB", 1.0)
    texts = [
        shown(one.value / factor) if figure == "macs" else figure_text(figure, one)
        for one in (first, last)
        if one.value
    ]
    ratio = first.value / last.value
    below = f"{shown(ratio)} times smaller than {texts[0]}{unit}" if ratio > 1 else f"of {texts[0]}{unit}"
    return name, Cell(texts[1] + unit, last.value, below)


def _latency(report: RunReport) -> tuple[str, Cell] | None:
    figure = report.final.figures.get("latency_p50_ms")
    if figure is None or figure.value is None:
        return None
    below = _speed(report.final.against_baseline)
    return f"latency p50, {figure.how} here", Cell(f"{shown(figure.value)} ms", figure.value, below)


def _speed(compared: Comparison | None) -> str:
    if compared is None or compared.speedup.low is None:
        return ""
    found = compared.speedup
    unclear = ", not distinguishable" if found.verdict == "not distinguishable" else ""
    return f"{found.ratio:.2f} times as fast ({span(found.low, found.high, 2)}){unclear}"


def _measured_on(report: RunReport) -> str:
    score = report.final.figures.get("score")
    latency = report.final.figures.get("latency_p50_ms")
    parts = []
    if score is not None and score.samples:
        parts.append(f"{report.metric.name} on {score.samples:,} evaluation samples of {report.data.origin}")
    if latency is not None and latency.on:
        parts.append(f"latency with {latency.on}")
    return f"Measured: {'; '.join(parts)}. Intervals hold 95 %." if parts else ""


def _of_the_board(report: RunReport) -> Block:
    """Return the figures of the target itself, or one sentence where all are absent for the same reason."""
    ways, reasons = ways_of(report.on_target.values()), {one.reason for one in report.on_target.values()}
    if ways == [ABSENT] and len(reasons) == 1:
        return Text(f"Figures of the {report.target} itself are absent: {reasons.pop()}.")
    rows = [
        [
            Cell(f"{label(name, report.metric.name)}, {figure.unit}"),
            *(cell_of_way(name, figure, way, ways) for way in ways),
        ]
        for name, figure in report.on_target.items()
    ]
    heads = [Head("figure", number=False), *(Head(way) for way in ways)]
    return Table(f"Figures of the {report.target} itself", heads, rows)


def _budget(report: RunReport) -> Table:
    heads = [Head("limit", number=False), Head("allowed"), Head("figure"), Head("verdict", number=False)]
    return Table("Budget", heads, [_verdict(one) for one in report.budget])


def _verdict(one: VerdictOfRun) -> list[Cell]:
    value = one.figure.value
    unit = f" {one.figure.unit}".rstrip()
    figure = (
        Cell(ABSENT, below=one.figure.reason or "")
        if value is None
        else Cell(f"{value:.4g}{unit}", value, one.figure.how or "")
    )
    return [Cell(one.limit), Cell(f"{one.allowed:.4g}{unit}", one.allowed), figure, Cell(one.outcome)]
