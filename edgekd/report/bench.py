"""The bench's table, for the terminal and as Markdown."""

from collections.abc import Callable
from dataclasses import dataclass

from edgekd.report.console import plural, print_table, results
from edgekd.verbs.bench.table import Row, Table
from edgekd.verbs.statistics import Mean

Lines = tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    """A column: its head, and what stands in it for a row that has measurements, one or two lines each."""

    head: Lines
    lines: Callable[[Row], Lines]
    right: bool = True


def show(table: Table) -> None:
    """Print the table, and what its figures are."""
    columns = _columns(table)
    heads = [(">" if column.right else "") + "\n".join(column.head) for column in columns]
    rows = [["\n".join(lines) for lines in _cells(columns, row)] for row in table.rows]
    print_table(heads, rows, title=f"{table.model} for {table.target}")
    for line in _notes(table):
        results.print(line)


def markdown(table: Table) -> str:
    """Return the table as a Markdown page."""
    columns = _columns(table)
    heads = [" ".join(column.head) for column in columns]
    rules = ["---:" if column.right else "---" for column in columns]
    rows = [["<br>".join(lines).replace("|", "\\|") for lines in _cells(columns, row)] for row in table.rows]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)]
    notes = [f"- {note}" for note in _notes(table)]
    return "\n".join([f"# {table.model} for {table.target}\n", *lines, "", *notes, ""])


def _columns(table: Table) -> list[_Column]:
    unit = table.metric.unit
    where = f"on {table.target}" if table.on_target else "on this machine"
    columns = [
        _Column(("cell",), lambda row: (row.cell.name,), right=False),
        _Column((f"{table.metric.name} {unit}".rstrip(), "95 % interval"), lambda row: _mean(row.mean("score"), 2)),
        _Column((f"against {table.reference}", "95 % interval"), _difference),
        _Column(("p (Holm)",), lambda row: ("" if row.against is None else f"{row.against.corrected:.3f}",)),
        _Column(("MB",), lambda row: (f"{row.mean('megabytes').mean:.3f}",)),
        _Column((f"p50 ms {where}", "95 % interval"), lambda row: _mean(row.mean("milliseconds"), 3)),
        _Column(("times as fast", "as the baseline"), lambda row: _mean(row.mean("speedup"), 2)),
    ]
    if table.ratios:
        per = unit or table.metric.name
        columns += [
            _Column((f"{per} per ms",), lambda row: (f"{row.score_per('milliseconds').mean:,.0f}",)),
            _Column((f"{per} per MB",), lambda row: (f"{row.score_per('megabytes').mean:,.0f}",)),
        ]
    return [
        *columns,
        _Column(("front",), lambda row: ("yes" if row.front else "",)),
        _Column(("verdict",), lambda row: ("" if row.against is None else row.against.verdict,), right=False),
    ]


def _cells(columns: list[_Column], row: Row) -> list[Lines]:
    """Return what stands in every column; without measurements the reason stands in the last one."""
    if row.measured:
        return [column.lines(row) for column in columns]
    return [(row.cell.name,), *[("",)] * (len(columns) - 2), (f"left out: {row.problem}",)]


def _mean(found: Mean, digits: int) -> Lines:
    mean = f"{found.mean:.{digits}f}"
    return (mean,) if found.low is None else (mean, f"{found.low:.{digits}f} to {found.high:.{digits}f}")


def _difference(row: Row) -> Lines:
    return ("",) if row.against is None else row.against.difference.in_words()


def _notes(table: Table) -> list[str]:
    split = ", ".join(f"{count} with {name}" for name, count in table.epochs.items())
    first, last = table.seeds[0], table.seeds[-1]
    seeds = f"seeds {first} to {last}" if last > first else f"seed {first} alone, so nothing is told of the spread"
    return [
        f"{plural(sum(table.epochs.values()), 'epoch')} a trained cell: {split}; {seeds}; intervals are over the seeds",
        f"{table.metric.name}: measured on {plural(table.samples, 'evaluation sample')} of {table.data}",
        f"latency: measured, interleaved, with {table.latency_on}"
        + ("" if table.on_target else f", which is no {table.target}"),
        "front: no other cell is, in its means, at least as good in score, MB and ms and better in one",
    ]
