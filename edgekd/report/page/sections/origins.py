"""Where every figure comes from: a table for each way of obtaining one, so that they are not taken for each other."""

from collections.abc import Iterator

from edgekd.figures import Figure
from edgekd.report.page.blocks import Block, Cell, Head, Section, Table
from edgekd.report.page.numbers import figure_span, figure_text, label
from edgekd.report.page.sections.stages import rows_of
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.run_report import RunReport

_ABOUT = {
    "measured": "Measured, by running it",
    "counted": "Counted, in a file or a graph",
    "compiled": "Compiled, told by a vendor's compiler",
    "emulated": "Emulated",
    "predicted": "Predicted, not measured",
    "published": "Published by somebody else",
}


def origins(target: TargetContent) -> Section:
    """Return the section."""
    report = target.report
    found = list(_figures(report))
    blocks: list[Block] = []
    for how, title in _ABOUT.items():
        rows = [row for row in found if row[2].how == how and row[2].value is not None]
        if rows:
            blocks.append(_table(f"{title} ({len(rows)})", how, rows, report.metric.name))
    absent = [
        [Cell(of), Cell(f"{label(name, report.metric.name)}{_unit(one)}"), Cell(one.reason or "")]
        for of, name, one in found
        if one.value is None
    ]
    if absent:
        heads = [Head("of", number=False), Head("figure", number=False), Head("why", number=False)]
        blocks.append(Table(f"Absent ({len(absent)})", heads, absent, width=36))
    return Section("Where every figure comes from", blocks)


def _table(caption: str, how: str, rows: list[tuple[str, str, Figure]], metric: str) -> Table:
    """Return the table; a column that has nothing is left out."""
    heads = [Head("of", number=False), Head("figure", number=False), Head("value", how)]
    cells = [
        [Cell(of), Cell(f"{label(name, metric)}{_unit(one)}"), Cell(figure_text(name, one), one.value)]
        for of, name, one in rows
    ]
    more = {
        Head("95 % interval"): [Cell(figure_span(name, one)) for _, name, one in rows],
        Head("samples"): [Cell(f"{one.samples:,}", one.samples) if one.samples else Cell("") for _, _, one in rows],
        Head("on", number=False): [Cell(one.on or "") for _, _, one in rows],
    }
    used = {head: column for head, column in more.items() if any(cell.text for cell in column)}
    body = [[*row, *(column[number] for column in used.values())] for number, row in enumerate(cells)]
    return Table(caption, [*heads, *used], body)


def _figures(report: RunReport) -> Iterator[tuple[str, str, Figure]]:
    for name, stage in rows_of(report):
        for figure, one in stage.figures.items():
            yield name, figure, one
    for figure, one in report.on_target.items():
        yield f"the {report.target} itself", figure, one
    for arm, one in report.arms.items():
        yield f"arm {arm}", "score", one


def _unit(figure: Figure) -> str:
    return f", {figure.unit}" if figure.unit else ""
