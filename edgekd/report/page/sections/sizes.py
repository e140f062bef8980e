"""What the files keep: bytes by element type in every stage, and by layer in the last one."""

from collections.abc import Iterable

from edgekd.report.page.blocks import Block, Cell, Head, Plot, Section, Table, Text
from edgekd.report.page.plots.bars import Bar, bars
from edgekd.report.page.plots.svg import FIRST, FOURTH, SECOND, THIRD
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.content import FileContent

MOST = 20  # bars; those beyond become one
REST = "graph and names"
SCALES = "scales of activations"
_NARROW = ("int8", "uint8", "int4", "uint4")
_FAMILIES = {"8 bits or fewer": FIRST, "float": SECOND, REST: THIRD, "other integers": FOURTH}


def sizes(target: TargetContent) -> Section:
    """Return the section."""
    known = [one for one in target.files if one.absent is None]
    blocks: list[Block] = [
        Text(f"{one.stage}: absent: {one.absent}.") for one in target.files if one.absent is not None
    ]
    if known:
        blocks.append(_by_type(known))
    if known and known[-1] is target.files[-1] and known[-1].weights:
        blocks.append(_by_layer(known[-1]))
    return Section("What the files keep", blocks)


def _types(file: FileContent) -> dict[str, float]:
    """Return the bytes of every element type, and those of the graph itself."""
    assert file.bytes is not None
    found = _sum({one.dtype: one.bytes} for one in file.weights)
    return {**found, REST: max(0.0, file.bytes - sum(found.values()))}


def _family(kind: str) -> str:
    """Return the family of an element type: few enough for a colour each."""
    if kind == REST:
        return REST
    if "float" in kind:
        return "float"
    return "8 bits or fewer" if kind in _NARROW else "other integers"


def _plot(rows: list[tuple[str, dict[str, float]]], what: str, caption: str) -> Plot:
    drawn, rest = (rows[:MOST], rows[MOST:]) if len(rows) > MOST + 1 else (rows, [])
    if rest:
        drawn = [*drawn, (f"{len(rest)} others", _sum(parts for _, parts in rest))]
    chart = [
        Bar(name, _sum({_family(kind): size / 1000} for kind, size in parts.items()), _kb(parts))
        for name, parts in drawn
    ]
    total = _sum(parts for _, parts in rows)
    kinds = sorted(total, key=lambda kind: -total[kind])
    heads = [Head(what, number=False), Head("all", "bytes"), *(Head(kind, "bytes") for kind in kinds)]
    body = [
        [Cell(name), _bytes(sum(parts.values())), *(_bytes(parts.get(kind)) for kind in kinds)] for name, parts in rows
    ]
    numbers = Table(f"The numbers of this plot: bytes of every {what}", heads, body, folded=True, width=40)
    return Plot(bars(chart, _FAMILIES, "kB (1000 bytes), counted", caption), caption, numbers)


def _sum(all_parts: Iterable[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for parts in all_parts:
        for kind, size in parts.items():
            found[kind] = found.get(kind, 0) + size
    return found


def _kb(parts: dict[str, float]) -> str:
    return f"{sum(parts.values()) / 1000:,.1f} kB"


def _bytes(size: float | None) -> Cell:
    return Cell("") if size is None else Cell(f"{size:,.0f}", size)


def _by_type(files: list[FileContent]) -> Plot:
    rows = [(one.stage, _types(one)) for one in files]
    caption = "Size of every stage's ONNX file by what it keeps, counted in the file."
    return _plot(rows, "stage", caption)


def _by_layer(file: FileContent) -> Plot:
    layers: dict[str, dict[str, float]] = {}
    for one in file.weights:
        name = one.layer or SCALES
        layers[name] = _sum((layers.get(name, {}), {one.dtype: one.bytes}))
    rows = sorted(layers.items(), key=lambda row: -sum(row[1].values()))
    caption = f"The layers of {file.stage} that keep most, counted in the file."
    return _plot(rows, "layer", caption)
