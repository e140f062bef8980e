"""A result with every kind of outcome, and text that needs escaping."""

from typing import Any

import pytest

from edgekd.device.gate.figures import KINDS
from edgekd.device.gate.quantities import unit_of
from edgekd.device.machine import read_machine

_EMPTY = {"value": None, "low": None, "high": None, "how": None, "samples": None, "reason": None}


def figure(value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> dict[str, Any]:
    how = "measured" if value is not None else None
    return {**_EMPTY, "value": value, "low": low, "high": high, "how": how, **more}


def check(name: str, outcome: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "figure": name,
        "check": "budget",
        "unit": unit_of(KINDS[name].dimension),
        "limit": None,
        "threshold_percent": None,
        "gates": True,
        "informs": None,
        "outcome": outcome,
        "reason": None,
        "value": value,
        "baseline": None,
        "ratio": None,
        "rounds": [],
    } | more


@pytest.fixture
def result() -> dict[str, Any]:
    figures = {
        name: {"unit": unit_of(kind.dimension), **figure(None, reason="not asked")} for name, kind in KINDS.items()
    }
    figures["latency-p95"] |= figure(12.0, 11.5, 12.5)
    figures["size"] |= figure(329_869.0, how="counted")
    regression = {"check": "regression", "threshold_percent": 5.0}
    return {
        "outcome": "fail",
        "exit_code": 1,
        "failure": None,
        "model": {
            "name": 'net "a", 50% <b>|c',
            "precision": "int8",
            "target": "raspberry-pi-5",
            "runtime": "onnxruntime",
            "sha256": "ab" * 32,
            "bytes": 329_869,
            "batch": 1,
        },
        "baseline": {"kind": "stored", "file": "figures.json", "model": None, "updated_utc": "2026-01-01T00:00:00Z", "key": None},
        "session": {"runtime": "onnxruntime", "version": "1.31.1", "provider": "CPU", "threads": "1"},
        "sharing": {"shared": True, "reason": "a CI job (CI is set)"},
        "checks": [
            check("latency-p95", "fail", figures["latency-p95"], limit=10.0),
            check("size", "pass", figures["size"], limit=1e6),
            check("energy", "not measured", figure(None), limit=5.0, reason="no sensor:\r\n50% of them\x1b are, here"),
            check("cpu-time", "pass", figure(1.0), **regression, baseline=figure(1.0), ratio=figure(1.0, 0.99, 1.01)),
            check(
                "latency-p99", "fail", figure(2.0), **regression, gates=False, informs="informs only, the machine is shared",
                baseline=figure(1.0), ratio=figure(2.0, 1.5, 2.5),
            ),
        ],
        "figures": figures,
        "container": None,
        "machine": read_machine().to_dict() | {"time_utc": "2026-01-01T00:00:00Z"},
        "rounds": [],
        "disturbances": [],
        "warnings": [],
    }  # fmt: skip
