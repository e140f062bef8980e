"""JUnit XML: one test case a model, target and figure.

A check that fails is a `failure`, one that could not be decided an `error`, one that only informs is `skipped`.
"""

import re
from typing import Any
from xml.etree import ElementTree

from .table import headline, summary

_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(result: dict[str, Any]) -> bytes:
    """Return the file's content."""
    model, session, machine = result["model"], result["session"] or {}, result["machine"]
    checks = result["checks"]
    kinds = [_kind(check) for check in checks]
    counts = {
        "tests": len(checks),
        "failures": kinds.count("failure"),
        "errors": kinds.count("error"),
        "skipped": kinds.count("skipped"),
    }
    numbers = {name: str(count) for name, count in counts.items()}
    root = ElementTree.Element("testsuites", {"name": "edgekd gate", **numbers})
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": _clean(headline(result)), **numbers, "timestamp": machine["time_utc"].rstrip("Z")}
    )
    about = {
        "model_sha256": model["sha256"],
        "precision": model["precision"],
        "runtime": session.get("runtime", model["runtime"]),
        "runtime_version": session.get("version"),
        "threads": session.get("threads"),
        "batch": model["batch"],
        "cpu": machine["cpu_model"],
        "container": result["container"],
        "shared": result["sharing"]["reason"] if result["sharing"]["shared"] else "no",
    }
    _properties(suite, about)
    for check, kind in zip(checks, kinds, strict=True):
        _case(suite, f"{model['name']}.{model['target'] or 'no target'}", check, kind)
    ElementTree.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="utf-8") + b"\n"


def _case(suite: ElementTree.Element, classname: str, check: dict[str, Any], kind: str | None) -> None:
    name = f"{check['figure']} {check['check']}"
    case = ElementTree.SubElement(suite, "testcase", {"classname": _clean(classname), "name": name, "time": "0"})
    limit = check["limit"] if check["check"] == "budget" else check["threshold_percent"]
    measured, ratio = check["value"], check["ratio"]
    _properties(
        case,
        {
            "value": measured["value"],
            "low": measured["low"],
            "high": measured["high"],
            "unit": check["unit"],
            "how": measured["how"],
            "limit" if check["check"] == "budget" else "threshold_percent": limit,
            "ratio": ratio and ratio["value"],
            "outcome": check["outcome"],
        },
    )
    if kind is not None:
        told = _clean(summary(check))
        message = _clean(check["informs"] or told) if kind == "skipped" else told
        attributes = {"message": message} | ({} if kind == "skipped" else {"type": check["check"]})
        ElementTree.SubElement(case, kind, attributes).text = told


def _kind(check: dict[str, Any]) -> str | None:
    if not check["gates"]:
        return "skipped"
    return {"pass": None, "fail": "failure"}.get(check["outcome"], "error")


def _properties(parent: ElementTree.Element, values: dict[str, Any]) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in values.items():
        if value is not None:
            ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(str(value))})


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("?", text)
