"""Reads `.pt2` archives of torch.export.save without running anything that they hold.

torch's own reader is not safe for files from strangers: it loads shared libraries and pickles from the archive,
evaluates expressions, imports modules that a tree description names, and compiles Python code in which names from
the file stand unquoted. So the archive is read here first, reduced to the graph, the signature and the raw weights,
with every name, operator and expression checked; a new archive of just that is what torch gets to read.
"""

import ast
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import torch
from torch import fx
from torch.export import ExportedProgram

from edgekd.errors import InputError
from edgekd.models.loading.lift import lift
from edgekd.models.loading.operators import is_allowed_target
from edgekd.models.loading.reading import read_records, reading, shown, write_archive
from edgekd.models.loading.trust import only
from edgekd.models.signature import TensorSpec

_MODEL = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_SCHEMA = 8  # the major version of the graph format that torch 2.13 writes
_PAYLOADS = (("data/weights/", "weight_"), ("data/constants/", "tensor_"))
_IGNORED = ("extra/", ".data/", "archive_format", "archive_version", "byteorder", "version")

_NAME = re.compile(r"[A-Za-z0-9_.]*")
_TEXT = re.compile(r"[A-Za-z0-9_ ,.>-]{0,200}")  # "bilinear", "ij,jk->ik"; torch puts it into code with repr()
_NUMBER = re.compile(r"-?Infinity|NaN")
_CPU = {"type": "cpu", "index": None}
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
_CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict")

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2}  # per element of a dtype
_STRIDED = 7

_SYMPY = frozenset({
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Mod", "PythonMod", "FloorDiv", "CleanDiv",
    "CeilDiv", "IntTrueDiv", "FloatTrueDiv", "ModularIndexing", "Max", "Min", "Abs", "CeilToInt", "FloorToInt",
    "TruncToInt", "RoundToInt", "ToFloat", "Identity", "Where", "PowByNatural", "Equality", "Unequality",
    "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or", "Not", "Piecewise",
})  # fmt: skip
_ARITHMETIC = ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod
_MAX_EXPRESSION = 2000
_MAX_POWER = 8
_POWERS = ("Pow", "PowByNatural")
_MAX_NUMBER = 2**63  # no size is larger


def load_exported(path: Path) -> fx.GraphModule:
    """Return the network of a `.pt2` archive as ordinary layers and a graph.

    Raises:
        InputError: damaged, of another version of torch, or with anything in it that could run code.
    """
    program = _program_of(path)
    with reading(path):
        try:
            return lift(program)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def exported_inputs(path: Path) -> tuple[TensorSpec, ...]:
    """Return what the network of a `.pt2` archive takes; none where a signature cannot say it.

    Sizes that the archive leaves open, other than the batch, are those of its example inputs.
    """
    program = _program_of(path)
    values = {node.name: node.meta["val"] for node in program.graph.find_nodes(op="placeholder")}
    try:
        return tuple(
            TensorSpec(
                name=name,
                shape=tuple(size if isinstance(size, int) else int(size.node.hint) for size in values[name].shape),
                dtype=str(values[name].dtype).removeprefix("torch."),  # type: ignore[arg-type]
            )
            for name in program.graph_signature.user_inputs
            if isinstance(name, str)
        )
    except (ValueError, TypeError, KeyError, AttributeError):  # a scalar, or a dtype that signatures do not have
        return ()


def _program_of(path: Path) -> ExportedProgram:
    with reading(path):
        records = read_records(path)
        if "serialized_exported_program.json" in records:
            raise InputError(f"{path} was written by torch 2.7 or older. Export it again with torch 2.8 or newer.")
        _check_records(path, records)
        with _no_pickles():
            program = _read(write_archive(_reduced(path, records)))
        _say_modules(program, json.loads(records[_MODEL]))
        return program


def _say_modules(program: ExportedProgram, content: dict[str, Any]) -> None:
    """Note at every operation which modules it came from, as the archive says: plain paths, so that taps are found."""
    said: dict[str, dict[str, tuple[str, str]]] = {}
    for node in content["graph_module"]["graph"]["nodes"]:
        stack = node.get("metadata", {}).get("nn_module_stack", "")
        paths = [entry.split(",")[1] for entry in stack.split(";") if entry.count(",") == 2]
        plain = {path: (path, "") for path in paths if _NAME.fullmatch(path)}
        for output in node["outputs"]:
            if isinstance(output.get("as_tensor"), dict):
                said[output["as_tensor"]["name"]] = plain
    for node in program.graph.nodes:
        if node.op == "call_function" and node.name in said:
            node.meta["nn_module_stack"] = said[node.name]


def _read(archive: io.BytesIO) -> ExportedProgram:
    # The reader behind torch.export.load, which would log a traceback and try the format of torch 2.7 on any failure.
    from torch.export.pt2_archive._package import load_pt2

    return load_pt2(archive).exported_programs["model"]


@contextmanager
def _no_pickles() -> Iterator[None]:
    """Let every attempt of torch's reader to unpickle fail: the archive it reads has no pickles."""

    def refuse(*_args: object, **_settings: object) -> NoReturn:
        raise InputError("the archive holds pickles, which are not read")

    with mock.patch.object(torch, "load", refuse), mock.patch("pickle.loads", refuse):
        yield


def _check_records(path: Path, records: dict[str, bytes]) -> None:
    if records.get("archive_format") != b"pt2" or _MODEL not in records:
        raise InputError(f"{path} is not an archive with one network. Save it with torch.export.save.")
    if records.get("byteorder", b"little") != b"little":
        raise InputError(f"{path} was written on a big-endian machine. Save it again on another one.")
    for name in records:
        known = name in (_MODEL, _SAMPLES) or name.startswith(("data/weights/", "data/constants/", *_IGNORED))
        if not known:
            raise InputError(
                f"{path} also holds {shown(name)}: compiled code or a second network, which are not read. "
                "Save the network alone with torch.export.save(torch.export.export(...), path)."
            )
    if samples := records.get(_SAMPLES):
        try:
            with only([]):
                torch.load(io.BytesIO(samples), map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(
                f"{path}: its sample inputs are a pickle of more than tensors, so nothing of the archive was loaded. "
                "Export the network with tensors as example inputs."
            ) from error


def _reduced(path: Path, records: dict[str, bytes]) -> dict[str, bytes]:
    """Return the records of an archive with the checked graph and the raw weights only."""
    program = json.loads(records[_MODEL])
    version = program["schema_version"]["major"]
    if version != _SCHEMA:
        raise InputError(
            f"{path} has graph format {shown(str(version))} (torch {shown(str(program.get('torch_version')))}), "
            f"edgekd reads {_SCHEMA}. Export it again with torch {torch.__version__.split('+')[0]}."
        )
    try:
        reduced = {_MODEL: json.dumps(_program(program)).encode()}
        for folder, prefix in _PAYLOADS:
            reduced |= _payload(records, folder, prefix)
    except _NotAllowed as error:
        raise InputError(f"{path}: {error}. Nothing of it was loaded.") from None
    return reduced | {
        _SAMPLES: b"",
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": b"little",
        ".data/version": b"6\n",
    }


class _NotAllowed(Exception):
    """Something in the archive could run code; the text says what."""


def _program(program: dict[str, Any]) -> dict[str, Any]:
    """Return the program's JSON without what only describes it, and with everything else checked."""
    module = program["graph_module"]
    root = next(entry for entry in module["module_call_graph"] if entry["fqn"] == "")
    call = root["signature"]
    return {
        "graph_module": {
            "graph": _checked(module["graph"]),
            "signature": _checked(module["signature"]),
            "module_call_graph": [
                {
                    "fqn": "",
                    "signature": {
                        "inputs": [],
                        "outputs": [],
                        "in_spec": _tree_text(call["in_spec"]),
                        "out_spec": _tree_text(call["out_spec"]),
                        "forward_arg_names": _checked(call["forward_arg_names"]),
                    },
                }
            ],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {},
        "range_constraints": {
            _name(name): {key: limits[key] if isinstance(limits[key], int) else None for key in ("min_val", "max_val")}
            for name, limits in program["range_constraints"].items()
        },
        "schema_version": {"major": _SCHEMA, "minor": 0},
        "verifiers": ["TRAINING"],
        "torch_version": torch.__version__,
        "guards_code": [],
    }


def _checked(value: Any, key: str = "") -> Any:
    """Return a part of the JSON with every text in it checked; node metadata dropped, devices set to the CPU."""
    if isinstance(value, dict):
        if {"as_custom_obj", "custom_obj", "as_graph", "token"} & value.keys():
            raise _NotAllowed("it holds a custom object or a graph inside the graph, which are not read")
        result = {_name(name): _checked(child, name) for name, child in value.items() if name != "metadata"}
        if "target" in value and "metadata" in value:  # a node
            return result | {"metadata": {}}
        if value.keys() == _CPU.keys():
            return _CPU
        return result | {name: _checked(child) for name, child in value.items() if name == "metadata"}
    if isinstance(value, list):
        return [_checked(child, key) for child in value]
    if isinstance(value, str):
        return _CHECKS.get(key, _name)(value)
    return value


def _name(text: str) -> str:
    # torch writes names into the Python code that it compiles, so they must be nothing but names.
    if not _NAME.fullmatch(text):
        raise _NotAllowed(f"it uses the name {shown(text)!r}, which is not a plain name")
    return text


def _target(text: str) -> str:
    if not is_allowed_target(text):
        raise _NotAllowed(
            f"its graph calls {shown(text)!r}; only torch.ops.aten operators that compute, and arithmetic, are allowed"
        )
    return text


def _text(text: str) -> str:
    if not _TEXT.fullmatch(text):
        raise _NotAllowed(f"it passes the text {shown(text)!r} to an operator")
    return text


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise _NotAllowed(f"it holds {shown(text)!r} in place of a number")
    return text


def _expression(text: str) -> str:
    """Return a size expression such as "Mul(Integer(2), Symbol('s0', integer=True))", which sympy will evaluate."""
    try:
        if len(text) > _MAX_EXPRESSION or not text.isascii():
            raise ValueError
        _check_expression(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _NotAllowed(f"it holds {shown(text)!r} in place of a size") from None
    return text


def _check_expression(node: ast.expr) -> None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and abs(node.value) <= _MAX_NUMBER:
        return
    if isinstance(node, ast.Name) and re.fullmatch(r"[a-z]+\d+|oo|int_oo|true|false", node.id):
        return
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return _check_expression(node.operand)
    if isinstance(node, ast.BinOp) and isinstance(node.op, _ARITHMETIC):
        _check_expression(node.left)
        return _check_expression(node.right)
    if isinstance(node, ast.Compare):
        for operand in (node.left, *node.comparators):
            _check_expression(operand)
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _SYMPY:
        return _check_call(node.func.id, node)
    raise ValueError


def _check_call(function: str, node: ast.Call) -> None:
    arguments = list(node.args)
    first = arguments[0] if arguments else None
    if function in ("Symbol", "Float") and isinstance(first, ast.Constant) and isinstance(first.value, str):
        pattern = r"[a-z]+\d+" if function == "Symbol" else r"-?\d+(\.\d*)?(e[+-]?\d{1,3})?"
        if not re.fullmatch(pattern, first.value):
            raise ValueError
        arguments = arguments[1:]
    for argument in arguments:
        _check_expression(argument)
    for keyword in node.keywords:
        if keyword.arg is None or not isinstance(keyword.value, ast.Constant) or isinstance(keyword.value.value, str):
            raise ValueError
    if function in _POWERS:  # a tower of powers would take forever
        base, power = arguments
        if (
            isinstance(power, ast.Call)
            and isinstance(power.func, ast.Name)
            and power.func.id in ("Integer", "Rational")
        ):
            power = power.args[0]
        value = ast.literal_eval(power)
        inner = (part.func for part in ast.walk(base) if isinstance(part, ast.Call))
        if not isinstance(value, int) or abs(value) > _MAX_POWER:
            raise ValueError
        if any(isinstance(name, ast.Name) and name.id in _POWERS for name in inner):
            raise ValueError


_CHECKS: dict[str, Callable[[str], str]] = {
    "target": _target,
    "as_operator": _target,
    "expr_str": _expression,
    "as_string": _text,
    "as_strings": _text,
    **dict.fromkeys(("as_float", "as_floats", "as_float_lists", "real", "imag"), _number),
}


def _tree_text(text: str) -> str:
    """Return the description of how inputs or outputs are nested, of tuples, lists and dictionaries only."""
    protocol, tree = json.loads(text)
    return json.dumps([int(protocol), _tree(tree)])


def _tree(tree: dict[str, Any]) -> dict[str, Any]:
    if tree["type"] is None:
        return _LEAF
    if tree["type"] not in _CONTAINERS:
        raise _NotAllowed(
            f"its inputs or outputs are a {shown(str(tree['type']))!r}; only tuples, lists and dictionaries are read"
        )
    context: Any = None
    if tree["type"] == "builtins.dict":
        context = [_name(key) for key in json.loads(tree["context"])]
    children = [_tree(child) for child in tree["children_spec"]]
    return {"type": tree["type"], "context": json.dumps(context), "children_spec": children}


def _payload(records: dict[str, bytes], folder: str, prefix: str) -> dict[str, bytes]:
    """Return the raw tensors of one folder and the checked table that says what they are."""
    table_name = f"{folder}model_{folder.split('/')[1]}_config.json"
    table: dict[str, Any] = {}
    data: dict[str, bytes] = {}
    for name, entry in json.loads(records[table_name])["config"].items():
        file_name = entry["path_name"]
        if entry["use_pickle"] or not re.fullmatch(prefix + r"\d+", file_name) or not entry["tensor_meta"]:
            raise _NotAllowed(f"{shown(name)} is a pickled object and not a plain tensor")
        data[folder + file_name] = records[folder + file_name]
        meta = _checked(entry["tensor_meta"])
        _check_extent(name, meta, len(data[folder + file_name]))
        table[_name(name)] = {**_checked(entry), "tensor_meta": meta}
    unused = {record for record in records if record.startswith(folder)} - data.keys() - {table_name}
    if unused:
        raise _NotAllowed(f"it holds {shown(min(unused))}, which no tensor uses")
    return {table_name: json.dumps({"config": table}).encode(), **data}


def _check_extent(name: str, meta: dict[str, Any], size: int) -> None:
    """Refuse a tensor that does not lie inside its record: torch would make up zeros for an empty one."""
    sizes = [part["as_int"] for part in meta["sizes"]]
    strides = [part["as_int"] for part in meta["strides"]]
    numbers = [*sizes, *strides, meta["storage_offset"]["as_int"]]
    if meta["layout"] != _STRIDED or not all(type(number) is int and number >= 0 for number in numbers):
        raise _NotAllowed(f"{shown(name)} is not a plain tensor")
    last = sum((length - 1) * stride for length, stride in zip(sizes, strides, strict=True))
    needed = 0 if 0 in sizes else (numbers[-1] + last + 1) * _BYTES[meta["dtype"]]
    if needed > size:
        raise _NotAllowed(f"{shown(name)} needs {needed} bytes, and its record has {size}")
