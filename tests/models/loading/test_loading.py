"""Whatever bytes a file has: it loads, or there is one InputError. Nothing else."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from edgekd.errors import InputError
from edgekd.models.loading import load_network, load_onnx

from .crafted import FACTORY, change_archive

Mutation = Callable[[bytes], bytes]

FORMATS = ("module", "state-dict", "legacy", "safetensors", "torchscript", "exported-program", "onnx")
INNER = (  # records behind the checksums, where damage reaches the parsers
    ("module", "data.pkl"),
    ("state-dict", "data.pkl"),
    ("torchscript", "data.pkl"),
    ("torchscript", "code/__torch__/torch/nn/modules/conv.py"),
    ("exported-program", "models/model.json"),
    ("exported-program", "data/weights/model_weights_config.json"),
    ("exported-program", "data/sample_inputs/model.pt"),
)
SETTINGS = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """Return a function that changes some bytes, cuts bytes out, doubles some, or cuts the end off."""
    kind = draw(st.sampled_from(["change", "change", "cut", "double", "truncate"]))
    places = draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4))
    values = draw(st.binary(min_size=4, max_size=4))
    length = draw(st.integers(1, 40))

    def mutate(data: bytes) -> bytes:
        result = bytearray(data)
        for place, value in zip(places, values, strict=False):
            position = int(place * len(result))
            if kind == "change":
                result[position : position + 1] = bytes([value])
            elif kind == "cut":
                del result[position : position + length]
            elif kind == "double":
                result[position:position] = result[position : position + length]
            else:
                del result[position:]
        return bytes(result)

    return mutate


def loads_or_refuses(path: Path, form: str) -> None:
    try:
        if form == "onnx":
            load_onnx(path)
            return
        factory = FACTORY if form in ("state-dict", "legacy", "safetensors") else None
        network = load_network(path, factory=factory, example_inputs=(torch.zeros(2, 1, 6, 6),))
        assert isinstance(network, nn.Module)
    except InputError as error:
        assert str(error)


@pytest.mark.parametrize("form", FORMATS)
@SETTINGS
@given(mutate=mutations())
def test_damaged_files_load_or_are_refused(
    form: str, good_files: dict[str, Path], tmp_path: Path, mutate: Mutation
) -> None:
    path = tmp_path / f"model{good_files[form].suffix}"
    path.write_bytes(mutate(good_files[form].read_bytes()))
    loads_or_refuses(path, form)


@pytest.mark.parametrize(("form", "record"), INNER)
@SETTINGS
@given(mutate=mutations())
def test_damaged_records_load_or_are_refused(
    form: str, record: str, good_files: dict[str, Path], tmp_path: Path, mutate: Mutation
) -> None:
    def change(records: dict[str, bytes]) -> None:
        records[record] = mutate(records[record])

    loads_or_refuses(change_archive(good_files[form], tmp_path / "model.pt", change), form)


@pytest.mark.parametrize("form", ["module", "torchscript", "exported-program"])
def test_loaded_networks_are_in_eval_mode_on_the_cpu_and_float(form: str, good_files: dict[str, Path]) -> None:
    network = load_network(good_files[form], example_inputs=(torch.zeros(2, 1, 6, 6),))
    assert not any(module.training for module in network.modules())
    assert {(tensor.device.type, tensor.dtype) for tensor in network.parameters()} == {("cpu", torch.float32)}


def test_loading_leaves_no_trace_in_the_process(good_files: dict[str, Path]) -> None:
    def state() -> tuple[object, ...]:
        return torch.load, list(sys.path), set(torch.serialization.get_safe_globals()), logging.root.manager.disable

    before = state()
    for form in ("module", "exported-program"):
        load_network(good_files[form])
    assert state() == before
