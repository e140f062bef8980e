"""`.pt2` archives: good ones load, and nothing that a crafted one holds is run."""

import contextlib
import enum
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.loading import archive_inputs, load_network
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.models.signature import TensorSpec

from .crafted import (
    Marker,
    Picture,
    call_pickle,
    change_archive,
    change_program,
    save_zip,
    small_network,
)

WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive whose input has a name of its own and whose batch is dynamic."""
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    network = Picture(*small_network().children()).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(torch.export.export(network, (torch.randn(2, 1, 6, 6),), dynamic_shapes=({0: batch},)), path)
    return path


def test_a_network_round_trips(archive: Path, network: nn.Module, image: Tensor) -> None:
    loaded = load_network(archive)
    torch.testing.assert_close(loaded(image), network(image), atol=1e-5, rtol=1e-5)
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert isinstance(loaded.get_submodule("0"), nn.Conv2d) and not loaded.training


def test_resnet8_round_trips(tmp_path: Path) -> None:
    network = ResNet8().eval()
    image = torch.randn(2, 3, 16, 16)
    torch.export.save(torch.export.export(network, (image,)), tmp_path / "model.pt2")
    torch.testing.assert_close(load_network(tmp_path / "model.pt2")(image), network(image), atol=1e-5, rtol=1e-5)


def test_the_archive_says_its_inputs(archive: Path, good_files: dict[str, Path]) -> None:
    assert archive_inputs(archive) == (TensorSpec(name="picture", shape=("batch", 1, 6, 6)),)
    assert archive_inputs(good_files["module"]) == ()


class Sizes(nn.Module):
    """Arithmetic on sizes, text arguments, constants, and an infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return something that depends on the size of x."""
        n = x.shape[1]
        y = nn.functional.gelu(self.layer(x), approximate="tanh").reshape(x.shape[0], n * 2, 2)
        y = torch.einsum("bij,bkj->bik", y, y)
        y = torch.cat([y, torch.tensor([[1.0, 2.0]]).expand(y.shape[0], 1, 2).repeat(1, 1, n)], dim=1)
        y = nn.functional.interpolate(y.unsqueeze(1), size=(n + 3, (n + 1) // 2), mode="bilinear").squeeze(1)
        mask = torch.ones(n + 3, (n + 1) // 2).triu(1)
        return y.masked_fill(mask > 0, float("-inf"))


def test_sizes_may_be_computed(tmp_path: Path) -> None:
    network = Sizes().eval()
    shapes = ({0: torch.export.Dim("b"), 1: torch.export.Dim("n", min=3, max=100)},)
    program = torch.export.export(network, (torch.randn(2, 6, 4),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = load_network(tmp_path / "model.pt2")
    for size in ((3, 5, 4), (1, 8, 4)):
        x = torch.randn(size)
        torch.testing.assert_close(loaded(x), network(x), atol=1e-5, rtol=1e-5)


def test_extra_files_are_ignored(archive: Path, tmp_path: Path) -> None:
    path = change_archive(archive, tmp_path / "m.pt2", lambda records: records.update({"extra/note.txt": b"hello"}))
    assert load_network(path)


# --- crafted archives: each is refused, and would have run its payload in torch.export.load(...).module()

Craft = Callable[[Path, Path, Marker], Path]


def replaced(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    """Replace one text wherever it is the whole of a name."""

    def change(program: dict[str, Any]) -> None:
        text = json.dumps(program["graph_module"])
        assert json.dumps(old) in text
        program["graph_module"] = json.loads(text.replace(json.dumps(old), json.dumps(new)))

    return change


def sizes(expression: str) -> Callable[[dict[str, Any]], None]:
    def change(program: dict[str, Any]) -> None:
        text = json.dumps(program["graph_module"])
        for symbol in program["range_constraints"]:
            text = text.replace(f"Symbol('{symbol}', positive=True, integer=True)", json.dumps(expression)[1:-1])
        program["graph_module"] = json.loads(text)

    return change


def sympy_code(source: Path, path: Path, marker: Marker) -> Path:
    return change_program(source, path, sizes(marker.expression))


def placeholder_code(source: Path, path: Path, marker: Marker) -> Path:
    return change_program(source, path, replaced("picture", f"picture={marker.expression}"))


def weight_name_code(source: Path, path: Path, marker: Marker) -> Path:
    name = f'0.w"+str({marker.expression})+"'

    def change(records: dict[str, bytes]) -> None:
        program = json.loads(records["models/model.json"])
        replaced("0.weight", name)(program)
        records["models/model.json"] = json.dumps(program).encode()
        table = json.loads(records[WEIGHTS])
        table["config"][name] = table["config"].pop("0.weight")
        records[WEIGHTS] = json.dumps(table).encode()

    return change_archive(source, path, change)


def sample_inputs_pickle(source: Path, path: Path, marker: Marker) -> Path:
    data = save_zip(path, call_pickle("os", "system", marker.command)).read_bytes()
    return change_archive(source, path, lambda records: records.update({"data/sample_inputs/model.pt": data}))


def weight_pickle(source: Path, path: Path, marker: Marker) -> Path:
    data = save_zip(path, call_pickle("os", "system", marker.command)).read_bytes()

    def change(records: dict[str, bytes]) -> None:
        table = json.loads(records[WEIGHTS])
        table["config"]["0.weight"]["use_pickle"] = True
        records["data/weights/" + table["config"]["0.weight"]["path_name"]] = data
        records[WEIGHTS] = json.dumps(table).encode()

    return change_archive(source, path, change)


def constant_pickle(source: Path, path: Path, marker: Marker) -> Path:
    def change(records: dict[str, bytes]) -> None:
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        records["data/constants/opaque_obj_0"] = call_pickle("os", "system", marker.command)
        records[CONSTANTS] = json.dumps({"config": {"thing": entry}}).encode()

    return change_archive(source, path, change)


def old_weights_pickle(source: Path, path: Path, marker: Marker) -> Path:
    data = save_zip(path, call_pickle("os", "system", marker.command)).read_bytes()
    return change_archive(source, path, lambda records: records.update({"data/weights/model.pt": data}))


def tree_import(source: Path, path: Path, marker: Marker) -> Path:
    (path.parent / "edgekd_evil.py").write_text(f"import enum\n{marker.expression}\nclass E(enum.Enum):\n    A = 1\n")

    def change(program: dict[str, Any]) -> None:
        call = next(entry for entry in program["graph_module"]["module_call_graph"] if entry["fqn"] == "")["signature"]
        protocol, tree = json.loads(call["in_spec"])
        hook = {"__enum__": True, "fqn": "edgekd_evil:E", "name": "A"}
        tree["children_spec"][1]["context"] = json.dumps([hook])
        call["in_spec"] = json.dumps([protocol, tree])

    return change_program(source, path, change)


@pytest.mark.parametrize(
    ("craft", "message"),
    [
        (sympy_code, "in place of a size"),
        (placeholder_code, "not a plain name"),
        (weight_name_code, "not a plain name"),
        (sample_inputs_pickle, "sample inputs are a pickle of more than tensors"),
        (weight_pickle, "a pickled object and not a plain tensor"),
        (constant_pickle, "a pickled object and not a plain tensor"),
        (old_weights_pickle, "which no tensor uses"),
        (tree_import, "not a plain name|cannot be read"),
    ],
)
def test_malicious_archives_are_refused_and_nothing_runs(
    craft: Craft, message: str, archive: Path, tmp_path: Path, marker: Marker, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = craft(archive, tmp_path / "bad.pt2", marker)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=message):
        load_network(path)
    with pytest.raises(InputError, match=message):
        archive_inputs(path)
    assert not marker.exists
    with contextlib.suppress(Exception):  # the positive control; whatever it raises, the payload has run by then
        torch.export.load(path).module()(torch.randn(2, 1, 6, 6))
    assert marker.take()
    sys.modules.pop("edgekd_evil", None)


def test_guards_of_the_archive_are_not_run(archive: Path, tmp_path: Path, marker: Marker, image: Tensor) -> None:
    path = change_program(
        archive, tmp_path / "bad.pt2", lambda program: program.update(guards_code=[marker.expression])
    )
    load_network(path)(image)
    assert not marker.exists
    torch.export.load(path).module()(image)
    assert marker.take()


def set_target(target: str) -> Callable[[dict[str, Any]], None]:
    def change(program: dict[str, Any]) -> None:
        node = next(node for node in program["graph_module"]["graph"]["nodes"] if "relu" in node["target"])
        node["target"] = target

    return change


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "torch.load",
        "torch.ops.load_library",
        "torch.ops.aten.save.default",
        "torch.ops.higher_order.cond",
        "torch.ops.my_ops.relu.default",
        "#extension:op",
        "relu",
    ],
)
def test_calls_of_anything_but_operators_are_refused(target: str, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its graph calls"):
        load_network(change_program(archive, tmp_path / "bad.pt2", set_target(target)))


def test_an_operator_that_opens_files_is_refused(archive: Path, tmp_path: Path, marker: Marker) -> None:
    """`aten.from_file` makes the file that it maps; torch loads and runs such a graph."""

    def change(program: dict[str, Any]) -> None:
        node = next(node for node in program["graph_module"]["graph"]["nodes"] if "relu" in node["target"])
        node["target"] = "torch.ops.aten.from_file.default"
        values: dict[str, Any] = {"filename": {"as_string": str(marker.path)}, "shared": {"as_bool": True}}
        values["size"] = {"as_int": 4}
        node["inputs"] = [{"name": name, "arg": value, "kind": 1} for name, value in values.items()]

    path = change_program(archive, tmp_path / "bad.pt2", change)
    with pytest.raises(InputError, match=r"its graph calls 'torch\.ops\.aten\.from_file\.default'"):
        load_network(path)
    assert not marker.exists
    program = torch.export.load(path)
    with pytest.raises(IndexError):  # the flattening of four numbers has no second axis
        program.module()(torch.randn(2, 1, 6, 6))
    assert marker.take()


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "().__class__",
        "Symbol('s0); import os')",
        "Symbol('s0').func",
        "Integer.__init__",
        "lambda: 1",
        "[x for x in 1]",
        "f'{1}'",
        "Symbol('s0', cls=exit)",
        "Symbol(*'s0')",
        "Pow(Integer(9), Integer(999999))",
        "Pow(Integer(9), Mul(Integer(2), Integer(999999)))",
        "Pow(Pow(Integer(9), Integer(8)), Integer(8))",
        "Pow(Add(Integer(1), PowByNatural(Integer(9), Integer(8))), Integer(8))",
        "Integer(99999999999999999999)",
        "9**9**9**9",
        "Function('os')(1)",
        "sympify('exit()')",
        "exit",
        "s0; exit()",
        "Integer(" * 400 + "1" + ")" * 400,
        "",
    ],
)
def test_sizes_are_nothing_but_arithmetic(expression: str, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in place of a size"):
        load_network(change_program(archive, tmp_path / "bad.pt2", sizes(expression)))


def record(name: str, data: bytes = b"") -> Callable[[dict[str, bytes]], None]:
    return lambda records: records.update({name: data})


def edit_weights(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(records: dict[str, bytes]) -> None:
        table = json.loads(records[WEIGHTS])
        for key, value in changes.items():
            entry = table["config"]["0.weight"]
            (entry["tensor_meta"] if key in entry["tensor_meta"] else entry)[key] = value
        records[WEIGHTS] = json.dumps(table).encode()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (record("data/aotinductor/model/wrapper.so", b"\x7fELF"), "compiled code or a second network"),
        (record("models/other.json", b"{}"), "compiled code or a second network"),
        (record("executorch/model.pte"), "compiled code or a second network"),
        (record("data/weights/weight_99", b"1234"), "which no tensor uses"),
        (record("data/constants/custom_obj_0", b"1234"), "which no tensor uses"),
        (record("byteorder", b"big"), "big-endian"),
        (record("archive_format", b"pt3"), "not an archive with one network"),
        (record("serialized_exported_program.json"), "torch 2.7 or older"),
        (record("models/model.json", b"{}"), "damaged or incomplete"),
        (record("models/model.json", b"[" * 100000), "damaged or incomplete"),
        (edit_weights(path_name="../../secret"), "a pickled object and not a plain tensor"),
        (edit_weights(sizes=[{"as_int": 10**6}, {"as_int": 1}, {"as_int": 3}, {"as_int": 3}]), "its record has 144"),
        (edit_weights(storage_offset={"as_int": 4}), "its record has 144"),
        (edit_weights(storage_offset={"as_int": -1}), "not a plain tensor"),
        (edit_weights(layout=1), "not a plain tensor"),
        (edit_weights(dtype=8), "its record has 144"),
    ],
)
def test_archives_of_another_kind_are_refused(
    change: Callable[[dict[str, bytes]], None], message: str, archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load_network(change_archive(archive, tmp_path / "bad.pt2", change))


def test_an_empty_record_does_not_become_zeros(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its record has 0"):
        load_network(change_archive(archive, tmp_path / "bad.pt2", record("data/weights/weight_0")))


def test_other_versions_are_named(archive: Path, tmp_path: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        program["schema_version"]["major"] = 9

    with pytest.raises(InputError, match=r"graph format 9 .*Export it again with torch 2"):
        load_network(change_program(archive, tmp_path / "bad.pt2", change))


def test_custom_objects_and_inner_graphs_are_refused(archive: Path, tmp_path: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        argument = {"as_custom_obj": {"name": "thing", "class_fqn": "__torch__.torch.classes.Thing"}}
        program["graph_module"]["graph"]["inputs"].append(argument)

    with pytest.raises(InputError, match="custom object"):
        load_network(change_program(archive, tmp_path / "bad.pt2", change))


class Kind(enum.Enum):
    """An enumeration, as a harmless pickle of a class."""

    A = 1


def test_half_precision_is_refused_with_advice(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(2, 2).half(), (torch.ones(1, 2).half(),))
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(InputError, match=r"torch\.float16\. Export the network in float32"):
        load_network(tmp_path / "model.pt2")


def test_sample_inputs_of_other_classes_are_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sample inputs"):
        load_network(
            change_archive(archive, tmp_path / "bad.pt2", record("data/sample_inputs/model.pt", pickle.dumps(Kind.A)))
        )
