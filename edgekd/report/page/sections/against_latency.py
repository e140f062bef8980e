"""Score against latency as a plot, and enlarged where one stage lies far from the others."""

from collections.abc import Sequence

from markupsafe import Markup

from edgekd.figures import Figure
from edgekd.report.page.blocks import Block, Cell, Head, Plot, Table, Text
from edgekd.report.page.numbers import figure_cell, figure_span, figure_text, shown
from edgekd.report.page.plots.score_against_latency import Point, edge, score_against_latency
from edgekd.verbs.report.run_report import Compared, RunReport

_FAR = 2.0  # times what lies between the first and the last stage, intervals included

Measured = tuple[str, Figure, Figure]  # stage, score, latency


def against_latency(report: RunReport, rows: Sequence[tuple[str, Compared]]) -> list[Block]:
    """Return the plot, and a second one without the stages that are far from the first and the last one."""
    measured = [(name, stage.figures["score"], stage.figures["latency_p50_ms"]) for name, stage in rows
                if _is_measured(stage, "score") and _is_measured(stage, "latency_p50_ms")]  # fmt: skip
    if len(measured) < 2:
        return [Text("Score against latency is not drawn: fewer than two files have both figures measured.")]
    name = report.metric.name[:1].upper() + report.metric.name[1:]
    better = "up" if report.metric.higher_is_better else "down"
    caption = (
        f"{name} against latency, measured with {measured[-1][2].on or 'this machine'}. Better is left and {better}; bars are 95 % intervals; "
        "the filled point is the last stage."
    )
    points = _points(measured)
    if any(point.ms_high > edge(points) for point in points):
        caption += " One that ends at the edge reaches beyond it."
    near = _near(points)
    blocks: list[Block] = [Plot(_drawn(report, points, caption), caption, _numbers(report, measured, "this plot"))]
    if len(near) < len(points):
        left_out = ", ".join(point.name for point in points if point not in near)
        caption = f"The same without {left_out}, enlarged."
        kept = [one for one in measured if any(one[0] in point.stages for point in near)]
        blocks.append(Plot(_drawn(report, near, caption), caption, _numbers(report, kept, "the enlarged plot")))
    return blocks


def _drawn(report: RunReport, points: Sequence[Point], caption: str) -> Markup:
    metric = f"{report.metric.name}, {report.metric.unit}".removesuffix(", ")
    return score_against_latency(
        points, metric, "latency p50, ms", f"{caption} {'; '.join(one.text for one in points)}"
    )


def _near(points: Sequence[Point]) -> list[Point]:
    """Return the points whose score is not far from that of the first and the last one."""
    ends = (points[0], points[-1])
    low, high = min(one.score_low for one in ends), max(one.score_high for one in ends)
    room = _FAR * (high - low)
    return [one for one in points if low - room <= one.score <= high + room]


def _numbers(report: RunReport, measured: Sequence[Measured], plot: str) -> Table:
    heads = [
        Head("stage", number=False),
        Head("latency p50", "ms, measured"),
        Head(report.metric.name, f"{report.metric.unit}, measured".removeprefix(", ")),
    ]
    rows = [
        [Cell(name), figure_cell("latency_p50_ms", latency), figure_cell("score", score)]
        for name, score, latency in measured
    ]
    return Table(f"The numbers of {plot}", heads, rows, folded=True)


def _points(measured: Sequence[Measured]) -> list[Point]:
    """Return a point a stage; stages that left the same file share one."""
    groups: list[tuple[list[str], Figure, Figure]] = []
    for name, score, latency in measured:
        same = next((names for names, *figures in groups if figures == [score, latency]), None)
        if same is None:
            groups.append(([name], score, latency))
        else:
            same.append(name)
    return [_point(tuple(names), score, latency) for names, score, latency in groups]


def _is_measured(stage: Compared, name: str) -> bool:
    figure = stage.figures.get(name)
    return figure is not None and figure.value is not None and figure.how == "measured"


def _point(stages: tuple[str, ...], score: Figure, latency: Figure) -> Point:
    assert score.value is not None and latency.value is not None
    interval = figure_span("score", score)
    text = f"{figure_text('score', score)} {score.unit}".rstrip() + (f" ({interval})" if interval else "")
    return Point(
        stages, f"{', '.join(stages)}: {text} at {shown(latency.value)} ms",
        latency.value, _or(latency.low, latency.value), _or(latency.high, latency.value),
        score.value, _or(score.low, score.value), _or(score.high, score.value),
    )  # fmt: skip


def _or(end: float | None, value: float) -> float:
    return value if end is None else end
