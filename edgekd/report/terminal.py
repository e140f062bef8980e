"""The table at the end of a run."""

from typing import TYPE_CHECKING, Any

from edgekd.device.comparison import SMALLEST_DIFFERENCE
from edgekd.figures import in_digits
from edgekd.report.console import results, table

if TYPE_CHECKING:
    from edgekd.verbs.compress import Result

UNCLEAR = "~"  # before a ratio that is not distinguishable from 1
_SPARSE = 10  # % of zeros in the network that was given: it was masked before


def show(result: "Result") -> None:
    """Print baseline, stages and final: score, size, MACs, latency and ratios, each with its 95 % interval below."""
    report = result.report
    metric = report["metric"]
    made = table(
        "stage", f">{metric['name']}{' ' + metric['unit'] if metric['unit'] else ''}\nvs parent", ">kB", ">MACs",
        ">p50 ms\n95 % interval", ">p95 ms\n95 % interval", ">faster than\nbaseline", ">faster than\nparent",
        title=f"{report['model']['name']} for {report['target']} with {report['runtime']}",
    )  # fmt: skip
    made.padding = (0, 1, 0, 0)  # one space between columns: the intervals fit into 100 columns
    for stage in report["stages"]:
        made.add_row(*_row(stage["name"], stage))
    if report["recipe"]["export"]["input"] == "uint8":
        made.add_row(*_row("exported", report["final"]))
    results.print(made)
    if any(str(cell).startswith(UNCLEAR) for column in made.columns for cell in column.cells):
        results.print(f"{UNCLEAR} not distinguishable from equally fast by {SMALLEST_DIFFERENCE:.0%} or more")
    figure = report["final"]["figures"]["latency_p50_ms"]
    results.print(f"latency and {metric['name']}: measured on this machine ({figure['on']})", markup=False)
    if _is_sparse(report):
        zeros = report["final"]["figures"]["zeros"]
        value = zeros["reason"] if zeros["value"] is None else f"{zeros['value']:.2f} %"
        results.print(f"zeros among the weights of the final file: {value}", markup=False)
    for name, absent in report["on_target"].items():
        if absent.get("value") is None:
            results.print(f"{report['target']} itself, {name}: absent: {absent['reason']}", markup=False)
            break
    for name, arm in report["arms"].items():
        value = (
            arm["reason"] if arm["value"] is None else f"{in_digits(arm['value'], arm['unit'])} {arm['unit']}".rstrip()
        )
        results.print(f"arm {name}: {value}", markup=False)
    for verdict in result.verdicts:
        value = "absent" if verdict.figure.value is None else f"{verdict.figure.value:.4g} {verdict.figure.unit}"
        results.print(f"budget {verdict.limit} <= {verdict.allowed:g}: {value}: {verdict.outcome}", markup=False)
    for remark in report["remarks"]:
        results.print(f"remark: {remark}", markup=False)
    results.print(f"artifact: {result.artifact}", markup=False)


def _is_sparse(report: dict[str, Any]) -> bool:
    """Return whether weights were masked, here or before."""
    before = report["stages"][0]["figures"]["zeros"]["value"]
    masked = any(stage["kind"] == "mask" for stage in report["recipe"]["stages"])
    return masked or (before is not None and before >= _SPARSE)


def _row(name: str, stage: dict[str, Any]) -> list[str]:
    figures = stage["figures"]
    parent, baseline = stage.get("against_parent"), stage.get("against_baseline")
    return [
        name,
        _score(figures["score"], parent),
        f"{figures['size_kb']['value']:,.1f}",
        "not known" if figures["macs"]["value"] is None else f"{figures['macs']['value'] / 1e6:.2f} M",
        _latency(figures["latency_p50_ms"]),
        _latency(figures["latency_p95_ms"]),
        _speedup(baseline),
        _speedup(parent),
    ]


def _score(figure: dict[str, Any], parent: dict[str, Any] | None) -> str:
    change = "" if parent is None else "\n" + in_digits(parent["score"], figure["unit"], "+")
    return in_digits(figure["value"], figure["unit"]) + change


def _latency(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "too few calls"
    digits = 3 if figure["value"] < 10 else 1
    return f"{figure['value']:.{digits}f}\n{_interval(figure, digits)}"


def _speedup(compared: dict[str, Any] | None) -> str:
    if compared is None:
        return ""
    found = compared["speedup"]
    if found["verdict"] == "the same file":
        return str(found["verdict"])
    sign = UNCLEAR if found["verdict"] == "not distinguishable" else ""
    return f"{sign}{found['ratio']:.2f}x\n{_interval(found, 2)}"


def _interval(found: dict[str, Any], digits: int) -> str:
    low, high = found.get("low"), found.get("high")
    return "too few calls" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"
