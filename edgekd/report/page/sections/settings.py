"""What it was made of: recipe, data, machine, software, files and their hashes."""

import json
from collections.abc import Mapping
from typing import Any

from edgekd.report.page.blocks import Block, Cell, Facts, Head, Listing, Section, Table
from edgekd.report.page.numbers import shown
from edgekd.verbs.report import TargetContent
from edgekd.verbs.report.run_report import RunReport


def settings(target: TargetContent) -> Section:
    """Return the section."""
    report = target.report
    data = report.data
    parts = ", ".join(f"{count:,} {part}" for part, count in data.parts.items())
    facts = [
        ("model", f"{report.model.name}, {report.model.format}"),
        ("data", data.origin),
        ("made by", data.provenance or "not stated"),
        ("licence", data.licence or "not stated"),
        ("samples", f"{parts}; {'with' if data.labelled else 'without'} labels"),
        ("machine", _machine(report.host)),
        (
            "software",
            _versions(report),
        ),
        ("parity", _parity(report)),
    ]
    blocks: list[Block] = [
        Facts([(name, Cell(text)) for name, text in facts]),
        _files(report),
        Listing("Hashes of the run", "\n".join(f"{name:<24} {digest}" for name, digest in _hashes(report))),
        Listing("The recipe, defaults included", json.dumps(report.recipe, indent=1, ensure_ascii=False)),
        Listing(
            "What the stages noted",
            json.dumps({one.name: one.notes for one in report.stages}, indent=1, ensure_ascii=False),
        ),
    ]
    return Section("What it was made of", blocks)


def _files(report: RunReport) -> Table:
    heads = [Head("file", number=False), Head("bytes"), Head("SHA-256", number=False)]
    rows = [[Cell(name), Cell(f"{one.bytes:,}", one.bytes), Cell(one.sha256)] for name, one in report.artifact.items()]
    return Table("The artifact's files", heads, rows, width=36)


def _hashes(report: RunReport) -> list[tuple[str, str]]:
    hashes = [("data", report.data.sha256), ("edgekd's code", report.software.get("edgekd", "not known"))]
    return [*hashes, *((f"file of {stage.name}", stage.sha256) for stage in report.stages)]


def _parity(report: RunReport) -> str:
    found = report.parity
    numbers = {
        "cosine": "cosine",
        "lowest_cosine": "lowest cosine",
        "max_abs_difference": "largest difference",
        "agreement": "equal decisions",
    }
    told = [f"{title} {found[name]:.4g}" for name, title in numbers.items() if isinstance(found.get(name), int | float)]
    return (
        f"the exported file against {found.get('against')} in torch, {found.get('samples')} samples: {', '.join(told)}"
    )


def _versions(report: RunReport) -> str:
    libraries = {name: version for name, version in report.software.items() if name != "edgekd"}  # that is a hash
    return "; ".join(f"{name} {version}" for name, version in {"edgekd": report.edgekd, **libraries}.items())


def _machine(host: Mapping[str, Any]) -> str:
    """Return what is known of the machine and the state it was in."""
    titles = {
        "board": "", "cpu_model": "", "architecture": "", "int8_isa": "int8 by ", "cores": "cores ", "memory_mib": "memory MiB ",
        "governor": "governor ", "clock_mhz": "clock MHz ", "temperature_celsius": "temperature °C ", "load_1min": "load ",
        "system": "", "python": "Python ", "time_utc": "",
    }  # fmt: skip
    known = {name: host[name] for name in titles if host.get(name) is not None}
    return "; ".join(
        f"{titles[name]}{shown(one, 4)}" if isinstance(one, float) else f"{titles[name]}{one}"
        for name, one in known.items()
    )
