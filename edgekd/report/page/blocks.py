"""What a page consists of: sections of tables, plots and facts. The template turns them into HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Cell:
    """A cell or a fact: a text, the number that it shows, and what stands below it in small letters."""

    text: str
    value: float | None = None
    below: str = ""


@dataclass(frozen=True)
class Head:
    """The head of a column: its name, and in small letters its unit or how its figures were obtained."""

    name: str
    below: str = ""
    number: bool = True


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row names it. `width` is its least width in em: below, it scrolls."""

    caption: str
    heads: Sequence[Head]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False
    width: int = 0


@dataclass(frozen=True)
class Plot:
    """A plot, what it shows, and its numbers as a table."""

    svg: Markup
    caption: str
    numbers: Table


@dataclass(frozen=True)
class Facts:
    """Names and what belongs to each; `large` are the few that matter most."""

    rows: Sequence[tuple[str, Cell]]
    large: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Listing:
    """Text whose lines stay as they are, folded behind its title."""

    title: str
    text: str


Block = Table | Plot | Facts | Text | Items | Listing


@dataclass(frozen=True)
class Section:
    """A titled part of a page."""

    title: str
    blocks: Sequence[Block]
