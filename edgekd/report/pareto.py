"""The bench's picture: score against latency and against size, as an SVG that needs no library."""

from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from edgekd.verbs.bench.table import Row, Table

WIDTH, HEIGHT, LEFT, TOP, LEGEND = 420, 320, 60, 30, 18  # of a panel, its margins, a line of the legend; in pixels
TICKS = 5


def pareto_svg(table: Table) -> str:
    """Return two panels side by side and a numbered legend; the cells of the front are filled, intervals are bars."""
    rows = [row for row in table.rows if row.measured]
    machine = table.target if table.on_target else "this machine"
    score = f"{table.metric.name} {table.metric.unit}".rstrip()
    panels = [
        _panel(rows, lambda row: row.milliseconds.mean, f"p50 ms, {machine}", score, 0),
        _panel(rows, lambda row: row.megabytes, "MB", score, WIDTH),
    ]
    below = HEIGHT + TOP
    legend = [_text(LEFT, below + LEGEND * n, f"{n} {row.cell.name}", "start") for n, row in enumerate(rows, 1)]
    height = below + LEGEND * (len(rows) + 1)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{height}" font-family="sans-serif" font-size="12">'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, ground, *panels, *legend, "</svg>", ""])


def _panel(rows: Sequence[Row], cost: Callable[[Row], float], x_name: str, y_name: str, offset: int) -> str:
    """Return one panel: the score of every row against a cost."""
    low, high = zip(*(_ends(row) for row in rows), strict=True)
    x = _scale([cost(row) for row in rows], offset + LEFT, offset + WIDTH - 20)
    y = _scale([*low, *high], HEIGHT - 40, TOP)
    parts = [
        f'<rect x="{offset + LEFT}" y="{TOP}" width="{WIDTH - 20 - LEFT}" height="{HEIGHT - 40 - TOP}" fill="none" stroke="grey"/>'
    ]
    for value in _ticks([cost(row) for row in rows]):
        parts.append(_text(x(value), HEIGHT - 24, f"{value:.3g}", "middle"))
    for value in _ticks([*low, *high]):
        parts.append(_text(offset + LEFT - 6, y(value) + 4, f"{value:.4g}", "end"))
    parts.append(_text(offset + (LEFT + WIDTH) / 2, HEIGHT - 6, x_name, "middle"))
    parts.append(_text(offset + LEFT, TOP - 10, y_name, "start"))
    for number, row in enumerate(rows, 1):
        at, height = x(cost(row)), y(row.score.mean)
        bottom, top = (y(end) for end in _ends(row))
        parts.append(f'<line x1="{at:.1f}" y1="{bottom:.1f}" x2="{at:.1f}" y2="{top:.1f}" stroke="grey"/>')
        fill = "black" if row.front else "white"
        parts.append(f'<circle cx="{at:.1f}" cy="{height:.1f}" r="4" fill="{fill}" stroke="black"/>')
        parts.append(_text(at + 6, height - 5, str(number), "start"))
    return "\n".join(parts)


def _ends(row: Row) -> tuple[float, float]:
    """Return the ends of the score's interval, or the score where there is none."""
    score = row.score
    return (score.mean, score.mean) if score.low is None or score.high is None else (score.low, score.high)


def _scale(values: Sequence[float], begin: float, end: float) -> Callable[[float], float]:
    """Return the map from values, with some room around them, to pixels."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or abs(low) or 1.0
    return lambda value: begin + (end - begin) * (value - low + room) / (high - low + 2 * room)


def _ticks(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [low + (high - low) * step / (TICKS - 1) for step in range(TICKS)] if high > low else [low]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
