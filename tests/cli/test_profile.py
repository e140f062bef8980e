import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.device import profile as profiles
from edgekd.device import profiler
from edgekd.device.errors import DeviceError
from edgekd.errors import InputError
from edgekd.verbs import profile as profiling
from edgekd.verbs.timed_model import launchable

from .conftest import Cli

SHORT = ("--duration", "0.2")


def save_onnx(path: Path, nodes: list[onnx.NodeProto], shape: list[int | str], **constants: list[int]) -> Path:
    """Write a graph from `x` to `y` of one shape, with constants of integers."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    held = [numpy_helper.from_array(np.array(numbers, np.int64), name) for name, numbers in constants.items()]
    graph = helper.make_graph(nodes, "graph", value[:1], value[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_an_artifact(cli: Cli, quantized: Path) -> None:
    outcome = cli("profile", quantized, *SHORT)
    assert outcome.code == 0, outcome.err
    assert "model (int8)" in outcome.out and "p50" in outcome.out and "threads 1, batch 1" in outcome.out


def test_an_onnx_file_in_json(cli: Cli, exported: Path) -> None:
    outcome = cli("profile", exported / "artifact/model.onnx", "--batch", "4", "--json", *SHORT)
    found = json.loads(outcome.out)
    assert found["batch"] == 4 and found["latency"]["p50_ms"] > 0
    assert 20 < found["peak_memory_mib"] < 250  # this process, with torch, holds more
    assert found["before"]["architecture"]


def test_a_torch_file_is_told_to_be_exported_first(cli: Cli, model: Path) -> None:
    outcome = cli("profile", model)
    assert outcome.code == 2 and f"edgekd export {model}" in outcome.err


def test_what_the_device_half_refuses_is_bad_input(exported: Path) -> None:
    with pytest.raises(InputError, match="a fixed batch|batch must be 1 or more"):
        profiling.profile(exported, batch=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threads": 0}, "--threads must be 1 to 1024, not 0"),
        ({"threads": 5000}, "--threads must be 1 to 1024, not 5000"),
        ({"duration_s": 0.0}, "--duration must be above 0"),
        ({"sustained_s": -1.0}, "--sustained must be above 0"),
        ({"limit_s": float("nan")}, "--time-limit must be above 0"),
        ({"sensor": "ina321"}, "did you mean 'ina3221'"),
        ({"counter": "abacus"}, "unknown counter"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        profiles.ProfileSettings(**settings)


def test_a_model_whose_inputs_no_memory_holds_and_one_without_any(cli: Cli, tmp_path: Path) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    huge = save_onnx(tmp_path / "huge.onnx", [relu], [100_000, 100_000, 100])
    model = onnx.load(huge)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 3), np.float32), "x"))
    del model.graph.input[:]
    onnx.save(model, tmp_path / "closed.onnx")
    for command in ("profile", "compare"):
        told = cli(command, huge, *([huge] if command == "compare" else []))
        assert told.code == 3 and "the inputs of a call take 7.45e+03 GiB" in told.err and told.err.count("\n") == 1
        closed = [tmp_path / "closed.onnx"] * (2 if command == "compare" else 1)
        told = cli(command, *closed)
        assert told.code == 2 and "the model has no inputs" in told.err and told.err.count("\n") == 1


def test_the_hash_holds_the_weights_beside_the_file(exported: Path, tmp_path: Path) -> None:
    plain = exported / "artifact/model.onnx"
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "model.onnx"
        onnx.save(onnx.load(plain), file, save_as_external_data=True, location="weights", size_threshold=0)
        if name == "other":
            weights = file.with_name("weights")
            weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
        found.append((launchable(file, None).sha256, file.read_bytes()))
    assert found[0][1] == found[1][1] and found[0][0] != found[1][0]
    assert launchable(plain, None).sha256 == hashlib.sha256(plain.read_bytes()).hexdigest()


def test_an_emulated_processor_is_refused(cli: Cli, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    machine = replace(profiler.read_machine(), emulated=True)
    monkeypatch.setattr(profiler, "read_machine", lambda: machine)
    outcome = cli("profile", exported, *SHORT)
    assert outcome.code == 3 and "emulated" in outcome.err


def test_more_memory_than_there_is(cli: Cli, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["zero"], keepdims=0),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    path = save_onnx(tmp_path / "huge.onnx", nodes, [1, 4], size=[1000, 1000, 1000, 1000])
    for command in (("profile", path), ("compare", path, path)):
        outcome = cli(*command, *SHORT)
        assert outcome.code == 3 and "allocate memory" in outcome.err and outcome.out == ""


def test_sizes_that_the_file_leaves_free(cli: Cli, tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "free.onnx", [helper.make_node("Relu", ["x"], ["y"])], ["N", 3, "H", "W"])
    refused = cli("profile", path, *SHORT)
    assert refused.code == 2 and "--shape x=1x3x224x224" in refused.err
    options = ("--shape", "2x3x16x16", "--throughput", "--json", *SHORT)
    found = json.loads(cli("profile", path, *options).out)
    assert found["batch"] == 2 and [one["batch"] for one in found["throughput"]][:2] == [1, 2]
    assert cli("profile", path, "--shape", "x=2x4x16x16", *SHORT).code == 2
    assert cli("profile", path, "--shape", "2,3", *SHORT).code == 2
    scalar = save_onnx(tmp_path / "scalar.onnx", [helper.make_node("Relu", ["x"], ["y"])], [])
    assert "'x' is a scalar" in cli("profile", scalar, *SHORT).err


def test_a_fixed_batch_has_no_throughput_and_more_threads_than_cores_are_warned_of(cli: Cli, tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "fixed.onnx", [helper.make_node("Relu", ["x"], ["y"])], [1, 4])
    threads = len(os.sched_getaffinity(0)) + 1
    outcome = cli("profile", path, "--throughput", "--threads", threads, *SHORT)
    assert outcome.code == 0 and "throughput    the model was exported with a fixed batch" in outcome.out
    assert f"{threads} threads share" in outcome.out


@pytest.mark.parametrize("options", [("--duration", "0"), ("--sustained", "ten"), ("--threads", "0"), ("--batch", "0")])
def test_wrong_options(cli: Cli, exported: Path, options: tuple[str, ...]) -> None:
    assert cli("profile", exported, *options).code == 2


def test_energy_is_measured_or_its_absence_explained(cli: Cli, exported: Path) -> None:
    outcome = cli("profile", exported, "--sensor", "none", *SHORT)
    assert outcome.code == 0 and "energy        not asked for" in outcome.out
    for name, words in (("wattmeter", "unknown sensor 'wattmeter'"), ("meter:", "names no file")):
        refused = cli("profile", exported, "--sensor", name, *SHORT)
        assert refused.code == 2 and words in refused.err and not refused.out
    failed = cli("profile", exported, "--sensor", "ina3221", *SHORT)
    assert failed.code == 3 and "p50" in failed.out
    assert "the sensor ina3221 gave no figure: no INA3221" in failed.err
    failed = cli("profile", exported, "--sensor", "ina3221", "--json", *SHORT)
    assert failed.code == 3 and json.loads(failed.out)["latency"]["p50_ms"] > 0


def test_from_the_frame_to_the_label_and_larger_batches(cli: Cli, quantized: Path) -> None:
    options = ("--frame", "64x48", "--throughput", "--json", *SHORT)
    found = json.loads(cli("profile", quantized, *options).out)
    assert found["end_to_end"]["frame"] == [48, 64, 1] and found["end_to_end"]["frames_per_second"] > 0
    assert [one["batch"] for one in found["throughput"]][:2] == [1, 2]
    onnx = json.loads(cli("profile", quantized / "artifact/model.onnx", *options).out)
    assert onnx["end_to_end"] is None and "model.toml" in onnx["end_to_end_absent"]
    assert cli("profile", quantized, "--frame", "64", *SHORT).code == 2


def test_another_runtime_than_the_artifact_s(cli: Cli, exported: Path) -> None:
    refused = cli("profile", exported, "--runtime", "abacus", *SHORT)
    assert refused.code == 2 and "known: onnxruntime, openvino" in refused.err
    pytest.importorskip("openvino")
    found = json.loads(cli("profile", exported, "--runtime", "openvino", "--layers", "--json", *SHORT).out)
    assert found["session"]["runtime"] == "openvino" and found["layers"]["nodes"]
    assert 0 < found["inside_runtime"]["p50_ms"] < found["latency"]["p50_ms"] and found["inside_runtime"]["calls"] > 1


def test_a_clock_that_counts_instructions_is_an_emulated_machine_s(cli: Cli, exported: Path) -> None:
    assert cli("profile", exported, "--instructions", "clock", *SHORT).code == 2


def test_layers_are_those_of_the_runtime(cli: Cli, quantized: Path) -> None:
    found = json.loads(cli("profile", quantized, "--layers", "--json", *SHORT).out)["layers"]
    assert sum(one["share"] for one in found["nodes"]) == pytest.approx(1)
    assert 0.1 < found["integer_share"] <= 1 - found["conversion_share"]
    assert any(one["operator"] == "QLinearConv" and one["dtype"] == "uint8" for one in found["nodes"])
    shown = cli("profile", quantized, "--layers", *SHORT).out
    assert "in rounding and layout" in shown and "QLinearConv" in shown
