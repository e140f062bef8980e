"""JUnit XML: one test case a model, target and figure, and one more where nothing could be decided as a whole.

A check that fails is a `failure`, one that could not be decided an `error`, one that only informs is `skipped`.
"""

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from .table import headline, summary

_NAME = "edgekd gate"
_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(result: dict[str, Any]) -> bytes:
    """Return the file's content."""
    model, session, machine = result["model"], result["session"] or {}, result["machine"]
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
    classname = f"{model['name']}.{model['target'] or 'no target'}"
    cases = [_case(classname, check) for check in result["checks"]]
    if result["failure"]:
        cases.insert(0, _error(classname, result["failure"]))
    return _document(headline(result), cases, about, timestamp=machine["time_utc"].rstrip("Z"))


def junit_of_error(message: str) -> bytes:
    """Return the file's content where there is no result: the message as the error of a single test case."""
    return _document(_NAME, [_error(_NAME, message)])


def _document(
    name: str, cases: Sequence[ElementTree.Element], about: dict[str, Any] | None = None, **attributes: str
) -> bytes:
    counts = {"tests": len(cases)} | {
        plural: sum(case.find(tag) is not None for case in cases) for plural, tag in _COUNTED.items()
    }
    numbers = {plural: str(count) for plural, count in counts.items()}
    root = ElementTree.Element("testsuites", {"name": _NAME, **numbers})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(name), **numbers, **attributes})
    if about:
        _properties(suite, about)
    suite.extend(cases)
    ElementTree.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="utf-8") + b"\n"


def _error(classname: str, message: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": _clean(classname), "name": "measurement", "time": "0"})
    told = _clean(message)
    ElementTree.SubElement(case, "error", {"message": told, "type": "measurement"}).text = told
    return case


def _case(classname: str, check: dict[str, Any]) -> ElementTree.Element:
    name = f"{check['figure']} {check['check']}"
    case = ElementTree.Element("testcase", {"classname": _clean(classname), "name": name, "time": "0"})
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
    kind = _kind(check)
    if kind is not None:
        told = _clean(summary(check))
        message = _clean(check["informs"] or told) if kind == "skipped" else told
        attributes = {"message": message} | ({} if kind == "skipped" else {"type": check["check"]})
        ElementTree.SubElement(case, kind, attributes).text = told
    return case


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
