"""The figures of a run, obtained on this machine: score, size, counts, latency against parent and baseline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from edgekd import host
from edgekd.context import Context
from edgekd.evaluate import judge_outputs, run_onnx
from edgekd.figures import Figure
from edgekd.files import sha256
from edgekd.models import onnx_graph
from edgekd.pipeline import Step
from edgekd.run import Run


def obtain_figures(
    run: Run, context: Context, chain: Sequence[Step], exported: Path | None
) -> tuple[dict[str, dict[str, Figure]], dict[str, Any], Any]:
    """Obtain the figures of every stage, on this machine: score, size, counts, latency against parent and baseline."""
    machine = host.this_machine()
    on = host.describe(machine)
    files = {one.name: one.file for one in chain}
    scores = scores_of(run, context, files)
    if exported is not None:
        files["exported"] = exported
        scores["exported"] = scores[chain[-1].name]
    hashes = {name: sha256(path) for name, path in files.items()}
    distinct = {digest: name for name, digest in reversed(hashes.items())}
    signature = chain[-1].state.signature

    def measure() -> dict[str, Any]:
        run.log(
            f"measure: one inference of {', '.join(distinct.values())}, {context.runtime.threads} thread, interleaved"
        )
        session = host.time_files(
            {name: files[name] for name in distinct.values()}, "onnxruntime", signature, context.runtime.threads
        )
        return {
            "latency": {name: session.latency(name).to_dict() for name in distinct.values()},
            "ratios": {
                f"{one}/{other}": _ratio(session, one, other)
                for one in distinct.values()
                for other in distinct.values()
                if one != other
            },
        }

    key = {"files": hashes, "threads": context.runtime.threads, "machine": [on, machine.system, machine.cores]}
    timed = run.remembered("latency", key, measure)
    figures: dict[str, dict[str, Figure]] = {}
    comparisons: dict[str, Any] = {}
    previous = None
    for name, path in files.items():
        alias = distinct[hashes[name]]
        figures[name] = {
            "score": Figure(
                context.metric.unit,
                scores[name],
                "measured",
                f"ONNX Runtime, {on}",
                samples=len(context.parts.evaluation),
            ),
            "size_kb": Figure("kB", path.stat().st_size / 1000, "counted"),
            "macs": Figure("", onnx_graph.count_macs(path), "counted"),
            "parameters": Figure("", onnx_graph.count_parameters(onnx.load(str(path))), "counted"),
            **host.latency_figures(timed["latency"][alias], f"ONNX Runtime, {on}, {context.runtime.threads} thread"),
        }
        if previous is not None:
            parent = distinct[hashes[previous]]
            comparisons[name] = {
                "against_parent": {
                    "score": context.metric.drop(scores[previous], scores[name]) * -1,
                    "speedup": timed["ratios"].get(f"{parent}/{alias}", _SAME),
                },
                "against_baseline": {
                    "score": context.metric.drop(scores["baseline"], scores[name]) * -1,
                    "speedup": timed["ratios"].get(f"{distinct[hashes['baseline']]}/{alias}", _SAME),
                },
            }
        previous = name
    return figures, comparisons, machine


_SAME = {"ratio": 1.0, "low": 1.0, "high": 1.0, "verdict": "the same file"}


def _ratio(session: Any, baseline: str, candidate: str) -> dict[str, Any]:
    found = session.comparison(baseline, candidate)
    return {"ratio": found.speedup, "low": found.speedup_low, "high": found.speedup_high, "verdict": found.verdict}


def scores_of(run: Run, context: Context, files: dict[str, Path]) -> dict[str, float]:
    """Return the metric of every file on the evaluation part."""
    part = context.parts.evaluation
    reference = None
    scores = {}
    data = part.dataset.digest()
    for name, path in files.items():

        def score(path: Path = path) -> float:
            nonlocal reference
            if context.metric.fidelity and reference is None:
                reference = run_onnx(files["baseline"], part, context.threads)
            return judge_outputs(run_onnx(path, part, context.threads), reference, part, context.metric)

        key = {
            "file": sha256(path),
            "baseline": sha256(files["baseline"]) if context.metric.fidelity else None,
            "metric": context.metric.name,
            "data": data,
            "part": part.indices.tolist(),
        }
        scores[name] = run.remembered("score", key, score)
        run.log(f"{name}: {context.metric.name} {scores[name]:.2f} {context.metric.unit}".rstrip())
    return scores


def arm_figures(run: Run, prepared: Prepared, context: Context, arms: dict[str, list[Step]] | None) -> dict[str, Any]:
    wanted = ("without-distillation", "from-scratch")
    if arms is None:
        return {name: Figure.absent(context.metric.unit, "not measured: ask with --arms").to_dict() for name in wanted}
    if not arms:
        reason = "not measured: the recipe does not distill"
        return {name: Figure.absent(context.metric.unit, reason).to_dict() for name in wanted}
    files = {"baseline": next(iter(arms.values()))[0].file} | {name: made[-1].file for name, made in arms.items()}
    scores = scores_of(run, context, files)
    on = f"ONNX Runtime, {host.describe(host.this_machine())}"
    count = len(context.parts.evaluation)
    return {name: Figure(context.metric.unit, scores[name], "measured", on, samples=count).to_dict() for name in wanted}


def limits_of(
    context: Context, baseline: dict[str, Figure], last: dict[str, Figure], machine: Any
) -> dict[str, Figure]:
    """Return the figures that budgets are about, by the names of the limits."""
    before, after = baseline["score"], last["score"]
    assert before.value is not None and after.value is not None
    drop = context.metric.drop(before.value, after.value)
    here = host.is_target(context.target, machine)
    absent = Figure.absent("ms", f"this machine is no {context.target.title}: run run.pyz profile on the device")
    return {
        "accuracy_drop": Figure(context.metric.unit, drop, "measured", after.on, samples=after.samples),
        "size_kb": last["size_kb"],
        "macs": last["macs"],
        "latency_ms": last["latency_p50_ms"] if here else absent,
        "energy_mj": Figure.absent("mJ", "no energy sensor is read here"),
        "memory_mb": Figure.absent("MB", "memory is measured by run.pyz profile on the device"),
    }


def figures_on_target(context: Context, last: dict[str, Figure], machine: Any) -> dict[str, Any]:
    if host.is_target(context.target, machine):
        return {"latency_p50_ms": last["latency_p50_ms"].to_dict(), "latency_p95_ms": last["latency_p95_ms"].to_dict()}
    reason = f"this machine is no {context.target.title}: copy the artifact there and run `python3 run.pyz profile`"
    return {
        "latency_p50_ms": Figure.absent("ms", reason).to_dict(),
        "energy_mj": Figure.absent("mJ", reason).to_dict(),
        "memory_mb": Figure.absent("MB", reason).to_dict(),
    }
