"""The results of the commands, as lines for a person or as JSON."""

import json
import math
from typing import Any

from .errors import NOT_ASKED

_LAYERS = 20  # the slowest, that are shown


def run_text(result: dict[str, Any]) -> str:
    """Return the best labels of each sample, or a line for each output."""
    if result["best"] is not None:
        return "\n".join(
            f"sample {index}: " + ", ".join(f"{one['label']} {_shown(one['score'])}" for one in best)
            for index, best in enumerate(result["best"])
        )
    return "\n".join(
        f"{name}: {one['dtype']}{one['shape']}, from {_shown(one['min'])} to {_shown(one['max'])}"
        for name, one in result["outputs"].items()
    )


def verify_text(result: dict[str, Any]) -> str:
    """Return a line for each output."""
    session = result["session"]
    lines = [f"{result['artifact']['name']} on {session['runtime']} {session['version']}: files match"]
    for one in result["outputs"]:
        agreement = "" if one["agreement"] is None else f", agreement {one['agreement']:.4f}"
        lines.append(
            f"{one['name']}: {one['samples']} samples, cosine {one['cosine']:.6f} (lowest {one['lowest_cosine']:.6f}), "
            f"largest difference {one['max_abs_difference']:.4g}{agreement}"
        )
    lines.append("passed" if result["passed"] else "FAILED")
    return "\n".join(lines)


def verify_failure(result: dict[str, Any]) -> str:
    """Return why a self-check did not pass."""
    reason = "; ".join(result["failures"])
    if result["artifact"]["precision"].startswith("int8") and result["int8_isa"] is None:
        reason += "; this CPU has no int8 dot product, so int8 results differ from those of CPUs that have one"
    return f"the self-check failed: {reason}"


def profile_text(result: dict[str, Any]) -> str:
    """Return a short table."""
    machine, session, latency = result["before"], result["session"], result["latency"]
    where = machine["board"] or machine["cpu_model"] or machine["architecture"]
    calls = "" if latency is None else f", {latency['n']} calls after {latency['warmup_calls']} to warm up"
    lines = [
        f"{result['artifact']['name']} ({result['artifact']['precision']}) on {where}",
        f"{session['runtime']} {session['version']}, {session['provider']}, threads {session['threads']}, "
        f"batch {result['batch']}{calls}",
    ]
    if latency is None:
        lines.append(_line("latency", result["latency_absent"]))
    else:
        lines += _times(result, latency)
    lines.append(_line("instructions", _instructions(result["instructions"]) or _why_not(result, "instructions")))
    lines += _layers(result["layers"]) + _sustained(result["sustained"])
    return "\n".join(lines + [f"warning: {note}" for note in result["warnings"]])


def _times(result: dict[str, Any], latency: dict[str, Any]) -> list[str]:
    """Return the lines of a machine whose clock tells the time."""
    lines = [
        _line(name, _figure(latency[f"{name}_ms"], "ms") + _interval(latency, name))
        for name in ("p50", "p90", "p95", "p99", "min", "mean", "max")
    ]
    lines += [
        *_inside(result["inside_runtime"]),
        _line("deviation", _figure(latency["std_ms"], "ms")),
        _line("CPU time", _figure(latency["cpu_ms"], "ms a call", "not known here")),
        _line("frames/s", _figure(result["frames_per_second"], "", "not known here").rstrip()),
        _line("end to end", _end_to_end(result["end_to_end"]) or _why_not(result, "end_to_end")),
        _line("load", _figure(result["cold_start"]["load_ms"], "ms")),
        _line("first call", _figure(result["cold_start"]["first_call_ms"], "ms", "not known here")),
        _line("peak memory", _figure(result["peak_memory_mib"], "MiB", "not known here")),
        _line("energy", _energy(result["energy"]) or _why_not(result, "energy")),
    ]
    if latency["drift_percent"] is not None:
        lines.append(_line("drift", f"{latency['drift_percent']:+.1f} % from the first quarter to the last"))
    for one in result["throughput"] or ():
        memory = _figure(one["peak_memory_mib"], "MiB", "peak memory not known here")
        times = f"{one['samples_per_second']:.4g} samples/s, p50 {one['p50_ms']:.4g} ms"
        lines.append(_line(f"batch {one['batch']}", f"{times}, {memory}"))
    if result.get("throughput_ended") is not None:
        lines.append(_line("no larger one", result["throughput_ended"]))
    lines += [
        _line(name, _why_not(result, name))
        for name in ("throughput", "layers", "sustained")
        if result[name] is None and not result[f"{name}_absent"].startswith(NOT_ASKED)
    ]
    return lines


def _inside(found: dict[str, Any] | None) -> list[str]:
    """Return what the runtime's own clock says, where it has one."""
    if found is None:
        return []
    return [_line("in the runtime", f"{found['p50_ms']:.4g} ms of p50, by its own clock")]


def _why_not(result: dict[str, Any], figure: str) -> str:
    """Return why a figure is absent, without the figure's name in front, which stands in the line already."""
    reason: str = result[f"{figure}_absent"]
    return reason.removeprefix(f"{figure} is ").removeprefix(f"{figure} are ")


def _line(name: str, text: str) -> str:
    return f"  {name:<14}{text}"


def _end_to_end(found: dict[str, Any] | None) -> str | None:
    """Return what a frame takes, and its three parts."""
    if found is None:
        return None
    height, width, _ = found["frame"]
    parts = ", ".join(f"{name} {found[f'{name}_p50_ms']:.4g}" for name in ("preprocess", "runtime", "postprocess"))
    total = found["latency"]["p50_ms"]
    return f"{total:.4g} ms ({parts}), {found['frames_per_second']:.4g} frames/s of {width} x {height}"


def _instructions(found: dict[str, Any] | None) -> str | None:
    if found is None:
        return None
    return f"{found['per_call']:,.0f} a call ({found['how']}, by {found['counter']}; half of {found['calls']} calls within {found['low']:,.0f} to {found['high']:,.0f})"


def as_json(result: dict[str, Any]) -> str:
    """Return JSON text; a number that is not finite becomes null, which JSON can write."""
    return json.dumps({"schema": 1, **_finite(result)}, indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4g}"


def _figure(value: float | None, unit: str, absent: str = "not enough calls") -> str:
    return absent if value is None else f"{value:.4g} {unit}"


def _layers(found: dict[str, Any] | None) -> list[str]:
    """Return a line for each of the slowest nodes, after what all of them add up to."""
    if found is None:
        return []
    slowest = sorted(found["nodes"], key=lambda one: -one["time_us"])[:_LAYERS]
    width = max(len(one["name"]) for one in slowest)
    return [
        f"  {len(found['nodes'])} nodes, {found['total_us']:.4g} us with the runtime's profile on: {found['integer_share']:.0%} in "
        f"integers, {found['conversion_share']:.0%} in rounding and layout",
        *(
            f"    {one['name']:<{width}}  {one['operator']:<20} {one['time_us']:>8.4g} us {one['share']:>6.1%}  {one['dtype'] or ''}"
            for one in slowest
        ),
    ]


def _sustained(found: dict[str, Any] | None) -> list[str]:
    """Return the first window against the steady state, and a line for every window."""
    if found is None:
        return []
    lines = [
        f"  sustained: p50 {found['first_p50_ms']:.4g} ms at first, {found['steady_p50_ms']:.4g} ms in the steady state "
        f"({found['slowdown_percent']:+.1f} %)"
    ]
    for one in found["windows"]:
        state = [
            f"{one[name]:.0f} {unit}"
            for name, unit in (("temperature_celsius", "C"), ("clock_mhz", "MHz"))
            if one[name] is not None
        ]
        state += one["throttled"] or ()
        lines.append(
            f"    to {one['to_s']:>6.1f} s  p50 {one['p50_ms']:.4g} ms  p95 {one['p95_ms']:.4g} ms  {', '.join(state)}"
        )
    return lines


def _energy(found: dict[str, Any] | None) -> str | None:
    """Return the energy of a call, all of it and what the calls add, each with its 95 % interval."""
    if found is None:
        return None
    total, above = (
        f"({found[f'{name}_low_mj']:.4g} to {found[f'{name}_high_mj']:.4g} mJ)" for name in ("total", "above_idle")
    )
    lost = found["above_idle_low_mj"] <= 0
    added = f"not distinguishable from rest {above}" if lost else f"{found['above_idle_mj']:.4g} mJ {above} above idle"
    power = f"{found['busy_w']:.3g} W, {found['idle_w']:.3g} W at rest"
    return f"{found['total_mj']:.4g} mJ {total} a call, {added}; {found['covers']}, by {found['sensor']}: {power}"


def _interval(latency: dict[str, Any], name: str) -> str:
    low, high = latency.get(f"{name}_low_ms"), latency.get(f"{name}_high_ms")
    if low is not None and high is not None:
        return f"  ({low:.4g} to {high:.4g}, 95 % interval)"
    return "  (no interval: too few calls, or times that wander)" if name == "p50" else ""
