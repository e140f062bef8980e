"""The bench's table, for the terminal and as Markdown."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgekd.report.console import plural, print_table, results
from edgekd.report.terminal import UNCLEAR
from edgekd.verbs.bench.table import Row, Table
from edgekd.verbs.remarks import disturbed_remarks
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
    rows = [["\n".join(lines) for lines in cells] for cells in _rows(table, columns)]
    print_table(heads, rows, title=f"{table.model} for {table.target}")
    for line in _notes(table):
        results.print(line)


def markdown(table: Table) -> str:
    """Return the table as a Markdown page."""
    columns = _columns(table)
    heads = [" ".join(column.head) for column in columns]
    rules = ["---:" if column.right else "---" for column in columns]
    rows = [["<br>".join(lines) for lines in cells] for cells in _rows(table, columns)]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)]
    notes = [f"- {note}" for note in _notes(table)]
    return "\n".join([f"# {table.model} for {table.target}\n", *lines, "", *notes, ""])


def _columns(table: Table) -> list[_Column]:
    unit = table.metric.unit or table.metric.name
    columns = [
        _Column(("cell",), lambda row: (row.cell.name,), right=False),
        _Column((table.metric.name, table.metric.unit), lambda row: _score(row.score)),
        _Column(("difference",), _difference),
        _Column(("p", "(Holm)"), lambda row: ("" if row.against is None else f"{row.against.corrected:.3f}",)),
        _Column(("MB",), lambda row: (_three_digits(row.megabytes),)),
        _Column(
            ("p50 ms,", table.target if table.on_target else "this machine"),
            lambda row: (_three_digits(row.milliseconds.mean),),
        ),
        _Column(("times as", "fast"), lambda row: _ratio(row.speedup)),
    ]
    if table.ratios:
        columns += [
            _Column((unit, "per ms"), lambda row: (f"{row.score_per_ms:,.0f}",)),
            _Column((unit, "per MB"), lambda row: (f"{row.score_per_mb:,.0f}",)),
        ]
    return [
        *columns,
        _Column(("front",), lambda row: ("yes" if row.front else "",)),
        _Column((), _verdict, right=False),
    ]


def _rows(table: Table, columns: list[_Column]) -> list[list[Lines]]:
    """Return what stands in every column; a row without measurements has the number of its reason in the last one."""
    numbers = {reason: number for number, reason in enumerate(_reasons(table), 1)}
    return [
        [column.lines(row) for column in columns]
        if row.problem is None
        else [(row.cell.name,), *[("",)] * (len(columns) - 2), (f"left out ({numbers[row.problem]})",)]
        for row in table.rows
    ]


def _reasons(table: Table) -> list[str]:
    return list(dict.fromkeys(row.problem for row in table.rows if row.problem is not None))


def _score(found: Mean) -> Lines:
    return (f"{found.mean:.2f}",) if found.high is None else (f"{found.mean:.2f}", f"± {found.high - found.mean:.2f}")


def _ratio(found: Mean) -> Lines:
    return (
        (f"{found.mean:.2f}",) if found.low is None else (f"{found.mean:.2f}", f"{found.low:.2f} to {found.high:.2f}")
    )


def _difference(row: Row) -> Lines:
    if row.against is None:
        return ("",)
    found = row.against.difference
    return f"{found.mean:+.2f}", f"± {found.high - found.mean:.2f}"


def _verdict(row: Row) -> Lines:
    verdict = "" if row.against is None else row.against.verdict
    return (UNCLEAR if verdict == "not distinguishable" else verdict,)


def _three_digits(value: float) -> str:
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _notes(table: Table) -> list[str]:
    split = ", ".join(f"{count} with {name}" for name, count in table.epochs.items())
    first, last = table.seeds[0], table.seeds[-1]
    seeds = f"seeds {first} to {last}" if last > first else f"seed {first} alone, so nothing is told of the spread"
    notes = [f"({number}) {reason}" for number, reason in enumerate(_reasons(table), 1)]
    notes.append(f"{plural(sum(table.epochs.values()), 'epoch')} a trained cell: {split}; {seeds}")
    if last > first:
        better = "" if table.metric.higher_is_better else ", above 0 is better"
        notes.append(
            f"difference: from {table.reference}, seed by seed{better}; 95 % intervals over the seeds, {UNCLEAR} not distinguishable"
        )
    notes += [
        f"{table.metric.name}: measured on {plural(table.samples, 'evaluation sample')} of {table.data}",
        f"latency: measured, interleaved, with {table.latency_on}"
        + ("" if table.on_target else f", which is no {table.target}"),
        "times as fast: as the baseline, paired in the same session; ms: the baseline's p50 divided by that ratio; front: no "
        "other cell is, in its means, at least as good in score, MB and ms (2 % are no difference) and better in one",
    ]
    return [*notes, *disturbed_remarks(table.disturbances)]
