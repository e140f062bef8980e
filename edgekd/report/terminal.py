"""The table at the end of a run."""

from typing import TYPE_CHECKING, Any

from edgekd.report.console import results, table

if TYPE_CHECKING:
    from edgekd.verbs.compress import Result


def show(result: "Result") -> None:
    """Print baseline, stages and final: score, size, MACs, latency with its interval, and the ratio to the baseline."""
    report = result.report
    metric = report["metric"]
    made = table(
        "stage", f">{metric['name']}{' ' + metric['unit'] if metric['unit'] else ''}", ">vs parent", ">kB", ">MACs",
        ">p50 ms", ">95 % interval", ">p95 ms", ">faster than baseline", ">than parent",
        title=f"{report['model']['name']} for {report['target']} with {report['runtime']}",
    )  # fmt: skip
    for stage in report["stages"]:
        made.add_row(*_row(stage["name"], stage))
    if report["recipe"]["export"]["input"] == "uint8":
        made.add_row(*_row("exported", report["final"]))
    results.print(made)
    figure = report["final"]["figures"]["latency_p50_ms"]
    results.print(f"latency and {metric['name']}: measured on this machine ({figure['on']})", markup=False)
    for name, absent in report["on_target"].items():
        if absent.get("value") is None:
            results.print(f"{report['target']} itself, {name}: absent: {absent['reason']}", markup=False)
            break
    for name, arm in report["arms"].items():
        value = f"{arm['value']:.2f} {arm['unit']}" if arm["value"] is not None else arm["reason"]
        results.print(f"arm {name}: {value}", markup=False)
    for verdict in result.verdicts:
        value = "absent" if verdict.figure.value is None else f"{verdict.figure.value:.4g} {verdict.figure.unit}"
        results.print(f"budget {verdict.limit} <= {verdict.allowed:g}: {value}: {verdict.outcome}", markup=False)
    results.print(f"artifact: {result.artifact}", markup=False)


def _row(name: str, stage: dict[str, Any]) -> list[str]:
    figures = stage["figures"]
    p50, p95 = figures["latency_p50_ms"], figures["latency_p95_ms"]
    parent, baseline = stage.get("against_parent"), stage.get("against_baseline")
    low, high = p50.get("low"), p50.get("high")
    return [
        name,
        f"{figures['score']['value']:.2f}",
        f"{round(parent['score'], 2) + 0.0:+.2f}" if parent else "",
        f"{figures['size_kb']['value']:,.1f}",
        "not known" if figures["macs"]["value"] is None else f"{figures['macs']['value'] / 1e6:.2f} M",
        f"{p50['value']:.3f}",
        f"{low:.3f} to {high:.3f}" if low is not None and high is not None else "too few calls",
        f"{p95['value']:.3f}" if p95["value"] is not None else "too few calls",
        _speedup(baseline),
        _speedup(parent),
    ]


def _speedup(compared: dict[str, Any] | None) -> str:
    if compared is None:
        return ""
    found = compared["speedup"]
    if found["verdict"] in ("the same file", "not distinguishable"):
        return str(found["verdict"])
    return f"{found['ratio']:.2f}x"
