"""What came out: before and after, the budget, and what to know beside the figures."""

from edgekd.figures import Figure, in_digits
from edgekd.report.page.blocks import Block, Cell, Facts, Head, Items, Section, Table, Text
from edgekd.report.page.numbers import ABSENT, LABELS, cell_of_way, figure_text, label, shown, span, ways_of
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.run_report import Compared, Comparison, RunReport, VerdictOfRun


def summary(target: TargetContent) -> Section:
    """Return the section."""
    report = target.report
    blocks: list[Block] = [Facts(_before_and_after(report), large=True), Text(_obtained(report))]
    blocks.append(_of_the_board(report))
    blocks.append(_budget(report) if report.budget else Text("No budget was set."))
    if report.remarks:
        blocks += [Text("What to know beside the figures:"), Items(report.remarks)]
    return Section("What came out", blocks)


def _before_and_after(report: RunReport) -> list[tuple[str, Cell]]:
    rows = [_score(report), _smaller("size_kb", report), _smaller("macs", report), _latency(report)]
    return [row for row in rows if row is not None]


def _score(report: RunReport) -> tuple[str, Cell] | None:
    before, after = (_figure("score", one) for one in (report.stages[0], report.final))
    if before is None or after is None:
        return None
    compared = report.final.against_baseline
    change = (
        "" if compared is None else f"{in_digits(compared.score, after.unit, '+')} against {_text('score', before)}"
    )
    return report.metric.name, Cell(_text("score", after), after.value, change)


def _smaller(name: str, report: RunReport) -> tuple[str, Cell] | None:
    before, after = (_figure(name, one) for one in (report.stages[0], report.final))
    if before is None or after is None or not before.value or not after.value:
        return None
    ratio = before.value / after.value
    below = f"{shown(ratio)} times smaller than" if ratio > 1 else "from"
    return LABELS[name], Cell(_text(name, after), after.value, f"{below} {_text(name, before)}")


def _figure(name: str, stage: Compared) -> Figure | None:
    found = stage.figures.get(name)
    return None if found is None or found.value is None else found


def _text(name: str, figure: Figure) -> str:
    return f"{figure_text(name, figure)} {figure.unit}".rstrip()


def _latency(report: RunReport) -> tuple[str, Cell] | None:
    figure = _figure("latency_p50_ms", report.final)
    if figure is None or figure.value is None:
        return None
    below = _speed(report.final.against_baseline)
    return f"latency p50, {figure.how} here", Cell(f"{shown(figure.value)} ms", figure.value, below)


def _speed(compared: Comparison | None) -> str:
    if compared is None or compared.speedup.low is None:
        return ""
    found = compared.speedup
    unclear = ", not distinguishable" if found.verdict == "not distinguishable" else ""
    return f"{found.ratio:.2f} times as fast ({span(found.low, found.high, 2)}){unclear}, in one process"


def _obtained(report: RunReport) -> str:
    """Return how score and latency were obtained, and on what."""
    score, latency = (_figure(name, report.final) for name in ("score", "latency_p50_ms"))
    found = []
    if score is not None:
        samples = f"{score.samples:,} evaluation samples of " if score.samples else ""
        found.append(f"The {report.metric.name} is {score.how} on {samples}{report.data.origin}.")
    if latency is not None:
        found.append(f"The latency is {latency.how} with {latency.on or 'this machine'}.")
    return " ".join([*found, "Intervals hold 95 %."])


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
