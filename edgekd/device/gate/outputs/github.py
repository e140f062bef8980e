"""GitHub Actions: annotations, as workflow commands on the standard output, and the job's summary in Markdown."""

from pathlib import Path
from typing import Any

from ...errors import DeviceError
from .table import HEADS, headline, notes, rows, summary, verdict

LARGEST_SUMMARY = 2**20  # GitHub drops a step's summary that is larger


def annotations(result: dict[str, Any]) -> list[str]:
    """Return an error for each check that fails or cannot be decided, and a warning for one that only informs and fails.

    Where nothing could be decided as a whole, that comes first: GitHub shows ten of a kind.
    """
    found = [error(result["model"]["name"], result["failure"])] if result["failure"] else []
    for check in result["checks"]:
        if check["gates"] and check["outcome"] != "pass":
            found.append(error(_title(result, check), summary(check)))
        elif not check["gates"] and check["outcome"] == "fail":
            found.append(_command("warning", _title(result, check), f"{summary(check)} ({check['informs']})"))
    return found


def error(title: str, message: str) -> str:
    """Return one annotation of an error."""
    return _command("error", title, message)


def append_summary(page: str, path: Path) -> None:
    """Append Markdown to the job's summary.

    Raises:
        DeviceError: The file cannot be written.
    """
    content = page.encode("utf-8")
    try:
        if path.exists() and path.stat().st_size + len(content) > LARGEST_SUMMARY:
            return
        with open(path, "ab") as stream:
            stream.write(content)
    except OSError as failure:
        raise DeviceError(f"cannot write the job's summary {path}: {failure.strerror or failure}") from failure


def markdown(result: dict[str, Any]) -> str:
    """Return the checks as Markdown."""
    lines = [f"### {_cell(headline(result))}", "", f"**{_cell(verdict(result))}**", ""]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in (HEADS, ["---"] * len(HEADS), *rows(result))]
    return "\n".join([*lines, "", *(f"- {_cell(note)}" for note in notes(result)), "", ""])


def markdown_of_error(message: str) -> str:
    """Return the message as Markdown, where there is no result."""
    return f"### edgekd gate\n\n**{_cell(message)}**\n\n"


def _title(result: dict[str, Any], check: dict[str, Any]) -> str:
    return f"{result['model']['name']}: {check['figure']} {check['check']}, {check['outcome']}"


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\").replace("|", "\\|")
    return " ".join(escaped.split())
