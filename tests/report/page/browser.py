"""Chromium without a window: what a page becomes in it, what it says in its console, and what it asks the network for."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_ITS_OWN = re.compile(r"(^|\.)(google|googleapis|gstatic)\.com$")  # the browser's updates and account, not the page's


@dataclass(frozen=True)
class Seen:
    """The document after loading, the console's messages, and the addresses that were asked for."""

    dom: str
    console: list[str]
    requests: set[str]


def browse(page: Path, folder: Path, *options: str) -> Seen:
    """Load a page."""
    assert CHROMIUM is not None
    log = folder / "network.json"
    done = subprocess.run(
        [CHROMIUM, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", *options, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    events = [event.get("params") for event in json.loads(log.read_text(encoding="utf-8"))["events"]]
    urls = {str(one["url"]) for one in events if isinstance(one, dict) and "url" in one}
    asked = {url for url in urls if not _ITS_OWN.search(urlsplit(url).hostname or "")}
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(done.stdout, console, asked)


@dataclass
class ShownCell:
    """A cell: its text, and the number of its `data` element."""

    text: str = ""
    value: float | None = None


class Document(HTMLParser):
    """The tables of a page by their captions, and how many of every element there are."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[ShownCell]]] = {}
        self.elements: list[str] = []
        self.text = ""
        self.embedded = ""
        self._caption: str | None = None
        self._rows: list[list[ShownCell]] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self._inside = tag if tag in ("style", "script", "caption") else self._inside
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append(ShownCell())
        elif tag == "data" and self._caption is not None:
            self._rows[-1][-1].value = float(dict(attrs)["value"] or "nan")

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside
        if tag == "table":
            assert self._caption is not None
            self.tables[self._caption.strip()] = self._rows
            self._caption = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.embedded += data
        elif self._inside != "style":
            self.text += data
            if self._inside == "caption" and self._caption is not None:
                self._caption += data
            elif self._caption is not None and self._rows and self._rows[-1]:
                self._rows[-1][-1].text += data

    def column(self, caption: str, *words: str) -> dict[str, ShownCell]:
        """Return the cells of the column whose head holds these words, by the names of their rows."""
        heads, *rows = next(rows for name, rows in self.tables.items() if caption in name)
        (number,) = [at for at, head in enumerate(heads) if all(word in head.text for word in words)]
        return {row[0].text.strip(): row[number] for row in rows}
