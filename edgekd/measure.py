"""The figures of a run, obtained on this machine: score, size, counts, latency against parent and baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgekd import host
from edgekd.context import Context
from edgekd.device.comparison import Interleaved
from edgekd.device.errors import DeviceError
from edgekd.device.launches import launcher
from edgekd.device.launches.noise import disturbances, noise_between, read_counters
from edgekd.device.launches.subject import subject_of
from edgekd.device.machine import Machine
from edgekd.device.runtimes import runtime_version
from edgekd.device.sensors import find_sensor
from edgekd.device.sensors.absent import AbsentSensor
from edgekd.evaluate import judge_outputs, run_onnx
from edgekd.figures import Figure, in_digits
from edgekd.files import sha256
from edgekd.models import onnx_graph
from edgekd.models.signature import Signature
from edgekd.models.zero_share import zero_share
from edgekd.pipeline import Step
from edgekd.run import Run

_SHORT_S, _ENERGY_S = 0.01, 10.0  # of the timed calls: what memory needs, what a sensor needs


@dataclass(frozen=True)
class Measured:
    """The figures of every file by its name, and its score and speed against parent and baseline.

    `disturbances` is what other work on the machine did while the latencies were measured, in words.
    """

    machine: Machine
    figures: dict[str, dict[str, Figure]]
    comparisons: dict[str, dict[str, Any]]
    disturbances: tuple[str, ...]


def obtain_figures(run: Run, context: Context, chain: Sequence[Step], exported: Path | None) -> Measured:
    """Obtain the figures of every stage, on this machine; of `exported` too, where it is a file of its own."""
    machine = host.this_machine()
    on = f"{host.runtime_title(context.runtime_name)}, {host.describe(machine)}"
    files = {step.name: step.file for step in chain}
    if exported is not None:
        files["exported"] = exported
    scores = scores_of(run, context, files)
    timed = timings_of(run, context, files, chain[-1].state.signature, machine)
    threads = context.runtime.threads
    count = len(context.parts.evaluation)
    figures, comparisons = {}, {}
    names = list(files)
    floats = [step.name for step in chain if step.state.form.precision == "fp32"]
    for parent, name in zip([None, *names], names, strict=False):
        low, high = context.metric.interval(scores[name], count)
        figures[name] = {
            "score": Figure(context.metric.unit, scores[name], "measured", on, low, high, count),
            "size_kb": Figure("kB", files[name].stat().st_size / 1000, "counted"),
            "macs": _macs(files[name]),
            "parameters": Figure("", onnx_graph.count_parameters(onnx.load(str(files[name]))), "counted"),
            "zeros": _zeros(files[name]),
            **host.latency_figures(timed["latency"][name], f"{on}, {threads} thread{'s' if threads > 1 else ''}"),
        }
        if parent is not None:
            others = {"parent": parent, "baseline": "baseline"}
            if floats and name not in floats and chain[-1].state.form.precision != "fp32":
                others["float"] = floats[-1]
            comparisons[name] = {
                f"against_{role}": {
                    "score": -context.metric.drop(scores[other], scores[name]),
                    "speedup": timed["speedups"][name][other],
                }
                for role, other in others.items()
            }
    return Measured(machine, figures, comparisons, tuple(timed["disturbances"]))


def _macs(path: Path) -> Figure:
    count = onnx_graph.count_macs(path)
    if count is None:
        return Figure.absent("", "the graph holds operators whose shapes or multiply-accumulates are not known")
    return Figure("", count, "counted")


def _zeros(path: Path) -> Figure:
    share = zero_share(onnx.load(str(path)))
    if share is None:
        return Figure.absent("%", "the file has no weights of layers that multiply, or packs them")
    return Figure("%", 100 * share, "counted")


def timings_of(
    run: Run, context: Context, files: dict[str, Path], signature: Signature, machine: Machine
) -> dict[str, Any]:
    """Time the files in one interleaved session, equal files once.

    Returns:
        `latency` by file, `speedups` as [file][other], and `disturbances`, what of the machine disturbed it.
    """
    hashes = {name: sha256(path) for name, path in files.items()}
    first = {digest: name for name, digest in reversed(hashes.items())}
    distinct = {name: files[name] for name in first.values()}
    threads = context.runtime.threads
    runtime = host.runtime_here(context.runtime_name)

    def measure() -> dict[str, Any]:
        run.log(f"measure: one inference of each of {', '.join(files)}, interleaved")
        before = read_counters()
        session = host.time_files(distinct, runtime, signature, threads)
        noise = noise_between(before, read_counters()).to_dict()
        return {
            "latency": {name: session.latency(name).to_dict() for name in distinct},
            "speedups": {one: {other: _speedup(session, other, one) for other in distinct} for one in distinct},
            "disturbances": disturbances([noise]),
        }

    key = {
        "files": hashes,
        "runtime": [runtime, runtime_version(runtime)],
        "threads": threads,
        "machine": [host.describe(machine), machine.system, machine.cores],
    }
    timed = run.remembered("latency", key, measure)
    alias = {name: first[digest] for name, digest in hashes.items()}
    return {
        "latency": {name: timed["latency"][alias[name]] for name in files},
        "speedups": {one: {other: timed["speedups"][alias[one]][alias[other]] for other in files} for one in files},
        "disturbances": timed["disturbances"],
    }


def _speedup(session: Interleaved, baseline: str, candidate: str) -> dict[str, Any]:
    if baseline == candidate:
        return {"ratio": 1.0, "low": 1.0, "high": 1.0, "verdict": "the same file"}
    found = session.comparison(baseline, candidate)
    return {"ratio": found.speedup, "low": found.speedup_low, "high": found.speedup_high, "verdict": found.verdict}


def scores_of(run: Run, context: Context, files: dict[str, Path]) -> dict[str, float]:
    """Return the metric of every file on the evaluation part; the file named `exported` takes raw bytes."""
    part = context.parts.evaluation
    on = host.describe(host.this_machine())
    runtime = host.runtime_here(context.runtime_name)
    reference = None
    scores = {}
    data = part.dataset.digest()
    for name, path in files.items():

        def score(name: str = name, path: Path = path) -> float:
            nonlocal reference
            if context.metric.fidelity and reference is None:
                reference = run_onnx(files["baseline"], part, context.threads, runtime=runtime)
            asked = part.raw() if name == "exported" else part
            outputs = run_onnx(path, asked, context.threads, runtime=runtime)
            return judge_outputs(outputs, reference, part, context.metric)

        key = {
            "signature": part.signature.model_dump(mode="json"),
            "machine": on,
            "runtime": [runtime, runtime_version(runtime)],
            "file": sha256(path),
            "baseline": sha256(files["baseline"]) if context.metric.fidelity else None,
            "metric": context.metric.identity,
            "data": data,
            "part": part.indices.tolist(),
        }
        scores[name] = run.remembered("score", key, score)
        run.log(
            f"{name}: {context.metric.name} {in_digits(scores[name], context.metric.unit)} {context.metric.unit}".rstrip()
        )
    return scores


def arm_figures(run: Run, context: Context, baseline: Step, arms: dict[str, Step] | None) -> dict[str, Any]:
    """Return the scores of the arms without a teacher, or the reason why there are none."""
    wanted = ("without-distillation", "from-scratch")
    if arms is None:
        return {name: Figure.absent(context.metric.unit, "not measured: ask with --arms").to_dict() for name in wanted}
    if not arms:
        reason = "not measured: the recipe does not distill"
        return {name: Figure.absent(context.metric.unit, reason).to_dict() for name in wanted}
    files = {"baseline": baseline.file} | {name: step.file for name, step in arms.items()}
    scores = scores_of(run, context, files)
    on = f"{host.runtime_title(context.runtime_name)}, {host.describe(host.this_machine())}"
    count = len(context.parts.evaluation)
    return {name: Figure(context.metric.unit, scores[name], "measured", on, samples=count).to_dict() for name in wanted}


def cost_figures(run: Run, context: Context, artifact: Path, machine: Machine) -> dict[str, Figure]:
    """Return energy and peak memory of one inference of the exported artifact, where this machine is the target itself.

    Each is measured in a process of its own that holds the runtime and the model alone.
    """
    if not host.is_runtime(context.target, context.runtime_name, machine):
        reason = _reason(context, machine)
        return {"energy_mj": Figure.absent("mJ", reason), "memory_mb": Figure.absent("MB", reason)}
    subject, threads = subject_of(artifact), context.runtime.threads
    sensor = find_sensor("auto")
    absent = sensor.reason if isinstance(sensor, AbsentSensor) else None

    def measure() -> dict[str, Any]:
        run.log("measure: energy and peak memory of the artifact, in processes of their own")
        found = [launcher.start({"candidate": subject}, threads=threads, duration_s=_SHORT_S)]
        if absent is None:
            found.append(launcher.start({"candidate": subject}, threads=threads, duration_s=_ENERGY_S, sensor="auto"))
        return {key: value for one in found for key, value in one.result["models"]["candidate"].items()}

    on = f"{host.runtime_title(context.runtime_name)}, {host.describe(machine)}"
    key = {"file": subject.sha256, "threads": threads, "machine": on, "sensor": None if absent else sensor.name}
    try:
        found = run.remembered("cost", key, measure)
    except DeviceError as error:
        return {"energy_mj": Figure.absent("mJ", str(error)), "memory_mb": Figure.absent("MB", str(error))}
    energy, memory_mib = found.get("energy"), found["memory_mib"]
    return {
        "energy_mj": Figure.absent("mJ", absent or found["energy_absent"])
        if energy is None
        else Figure(
            "mJ",
            energy["total_mj"],
            "measured",
            f"{energy['covers']}, by {energy['sensor']}",
            energy["total_low_mj"],
            energy["total_high_mj"],
            energy["samples"],
        ),
        "memory_mb": Figure.absent("MB", "this system does not tell it")
        if memory_mib is None
        else Figure("MB", memory_mib * 2**20 / 1e6, "measured", on),
    }


def limits_of(
    context: Context, baseline: dict[str, Figure], last: dict[str, Figure], cost: dict[str, Figure], machine: Any
) -> dict[str, Figure]:
    """Return the figures that budgets are about, by the names of the limits."""
    before, after = baseline["score"], last["score"]
    assert before.value is not None and after.value is not None
    drop = context.metric.drop(before.value, after.value)
    here = host.is_runtime(context.target, context.runtime_name, machine)
    absent = Figure.absent("ms", _reason(context, machine))
    return {
        "accuracy_drop": Figure(context.metric.unit, drop, "measured", after.on, samples=after.samples),
        "size_kb": last["size_kb"],
        "macs": last["macs"],
        "latency_ms": last["latency_p50_ms"] if here else absent,
        **cost,
    }


def figures_on_target(
    context: Context, last: dict[str, Figure], cost: dict[str, Figure], machine: Machine
) -> dict[str, Any]:
    """Return the figures of the target itself: measured where this machine is one, else absent with the reason."""
    here = host.is_runtime(context.target, context.runtime_name, machine)
    reason = _reason(context, machine)
    latencies = {
        name: last[name] if here else Figure.absent("ms", reason) for name in ("latency_p50_ms", "latency_p95_ms")
    }
    return {name: figure.to_dict() for name, figure in {**latencies, **cost}.items()}


def _reason(context: Context, machine: Machine) -> str:
    """Return why no figure measured here is one of the target with its runtime."""
    title, runtime = context.target.title, context.runtime_name
    if host.runtime_here(runtime) != runtime:
        return f"{runtime} does not run here: the engine is built and timed on the {title} itself"
    return f"this machine is no {title}: copy the artifact there and run `python3 run.pyz profile`"
