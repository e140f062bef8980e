"""The bench's table, for the terminal and as Markdown."""

from collections.abc import Callable
from dataclasses import dataclass

from edgekd.report.console import plural, print_table, results
from edgekd.verbs.bench.table import Row, Table
from edgekd.verbs.statistics import Mean


@dataclass(frozen=True)
class _Column:
    """A column: its head, and what stands in it for a row, as one or more lines."""

    head: tuple[str, ...]
    lines: Callable[[Row], tuple[str, ...]]
    right: bool = True


def show(table: Table) -> None:
    """Print the table, and what its figures are."""
    columns = _columns(table)
    heads = [(">" if column.right else "") + "\n".join(column.head) for column in columns]
    rows = [["\n".join(column.lines(row)) for column in columns] for row in table.rows]
    print_table(heads, rows, title=f"{table.model} for {table.target}")
    for line in _notes(table):
        results.print(line)


def markdown(table: Table) -> str:
    """Return the table as a Markdown page."""
    columns = _columns(table)
    heads = [" ".join(column.head) for column in columns]
    rules = ["---:" if column.right else "---" for column in columns]
    rows = [["<br>".join(column.lines(row)).replace("|", "\\|") for column in columns] for row in table.rows]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)]
    return "\n".join(
        [f"# {table.model} for {table.target}\n", *lines, "", *(f"- {note}" for note in _notes(table)), ""]
    )


def _columns(table: Table) -> list[_Column]:
    unit = table.metric.unit
    where = f"on {table.target}" if table.on_target else "on this machine"
    columns = [
        _Column(("cell",), lambda row: (row.cell.name,), right=False),
        _Column((f"{table.metric.name} {unit}".rstrip(), "95 % interval"), _of("score", 2)),
        _Column((f"against {table.reference}", "95 % interval"), _difference),
        _Column(("p (Holm)",), lambda row: ("" if row.against is None else f"{row.against.corrected:.3f}",)),
        _Column(("MB",), lambda row: _lines(row, Mean(row.mean("megabytes").mean, None, None), 3)),
        _Column((f"p50 ms {where}", "95 % interval"), _of("milliseconds", 3)),
        _Column(("times as fast", "as the baseline"), _of("speedup", 2)),
    ]
    if table.ratios:
        columns += [
            _Column((f"{unit or table.metric.name} per ms",), _per("milliseconds")),
            _Column((f"{unit or table.metric.name} per MB",), _per("megabytes")),
        ]
    return [
        *columns,
        _Column(("front",), lambda row: ("yes" if row.front else "",)),
        _Column(("",), _said, right=False),
    ]


def _of(figure: str, digits: int) -> Callable[[Row], tuple[str, ...]]:
    return lambda row: _lines(row, row.mean(figure), digits) if row.measured else ("",)


def _per(figure: str) -> Callable[[Row], tuple[str, ...]]:
    return lambda row: (f"{row.score_per(figure).mean:,.0f}",) if row.measured else ("",)


def _lines(row: Row, found: Mean, digits: int) -> tuple[str, ...]:
    mean = f"{found.mean:.{digits}f}"
    return (mean,) if found.low is None else (mean, f"{found.low:.{digits}f} to {found.high:.{digits}f}")


def _difference(row: Row) -> tuple[str, ...]:
    return ("",) if row.against is None else row.against.difference.in_words()


def _said(row: Row) -> tuple[str, ...]:
    if row.problem is not None:
        return (f"left out: {row.problem}",)
    return ("" if row.against is None else row.against.verdict,)


def _notes(table: Table) -> list[str]:
    split = ", ".join(f"{count} with {name}" for name, count in table.epochs.items())
    first, last = table.seeds[0], table.seeds[-1]
    seeds = f"seeds {first} to {last}" if last > first else f"seed {first}, so nothing is told of its spread"
    return [
        f"{plural(sum(table.epochs.values()), 'epoch')} a trained cell: {split}; {seeds}; intervals are over the seeds",
        f"{table.metric.name}: measured on the {plural(table.samples, 'evaluation sample')} of {table.data}",
        f"latency: measured, interleaved, with {table.latency_on}"
        + ("" if table.on_target else f", which is no {table.target}"),
        "front: no other cell is, in its means, at least as good in score, MB and ms and better in one",
    ]
