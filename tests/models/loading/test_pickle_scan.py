"""What a pickle asks for is listed for every protocol, without loading it."""

import pickle
from pathlib import Path

import pytest
import torch

from edgekd.models.loading import requested_globals
from edgekd.models.loading.pickle_scan import first_opcode, globals_in

from .crafted import Marker, call_pickle, save_zip, shell, stack_pickle


@pytest.mark.parametrize("protocol", range(6))
def test_globals_are_found_in_every_protocol(protocol: int, marker: Marker) -> None:
    assert ("posix", "system") in globals_in(pickle.dumps([shell(marker)], protocol))


def test_crafted_opcodes_are_found() -> None:
    assert globals_in(call_pickle("os", "system", "true")) == {("os", "system")}
    assert globals_in(stack_pickle("os", "system", "true")) == {("os", "system")}
    assert globals_in(b"(Vtrue\nios\nsystem\n.") == {("os", "system")}
    assert globals_in(call_pickle("__builtin__", "eval", "1")) == {("builtins", "eval")}


def test_names_from_the_memo_are_found() -> None:
    repeated = pickle.dumps([pickle.PickleError, pickle.PicklingError], 4)
    assert globals_in(repeated) == {("_pickle", "PickleError"), ("_pickle", "PicklingError")}


def test_files_list_what_they_ask_for(good_files: dict[str, Path], tmp_path: Path) -> None:
    names = requested_globals(good_files["module"])
    assert "torch.nn.modules.conv.Conv2d" in names and "collections.OrderedDict" in names
    assert "torch._utils._rebuild_tensor_v2" in requested_globals(good_files["legacy"])
    assert requested_globals(save_zip(tmp_path / "bad.pt", call_pickle("os", "system", "true"))) == ["os.system"]
    (tmp_path / "plain.pkl").write_bytes(stack_pickle("os", "system", "true"))
    assert requested_globals(tmp_path / "plain.pkl") == ["os.system"]


def test_the_outermost_object_is_told() -> None:
    assert first_opcode(pickle.dumps({"a": 1}, 4))[0] == "EMPTY_DICT"
    assert first_opcode(pickle.dumps(torch.Size([1]), 2)) == ("GLOBAL", "torch Size")
