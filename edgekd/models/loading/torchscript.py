"""Reads TorchScript archives and turns them into ordinary layers.

A TorchScript archive holds programs. torch.jit.load runs some of them (`__setstate__`), and operators can write files.
So the code is read here first and refused unless every call in it only computes; torch then reads a new archive of
what was checked, and torch.export turns the program into a graph.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from edgekd.errors import InputError
from edgekd.models.loading.lift import lift
from edgekd.models.loading.operators import is_plain_aten
from edgekd.models.loading.pickle_scan import globals_in
from edgekd.models.loading.reading import read_records, reading, shown, write_archive

_KEPT = re.compile(r"data\.pkl|constants\.pkl|(data|constants)/\w+|code/.*\.py|byteorder|(\.data/)?version")
_BUILTINS = frozenset({
    "annotate", "unchecked_cast", "uninitialized", "getattr", "int", "float", "bool", "complex", "str",
    "range", "len", "isinstance", "tuple", "list", "dict", "min", "max", "abs", "sum", "round", "enumerate", "zip",
})  # fmt: skip
_PRIM = frozenset({
    "NumToTensor", "RaiseException", "TupleIndex", "TupleUnpack", "abs", "data", "device", "dtype", "is_cpu",
    "is_cuda", "is_nested", "is_quantized", "is_sparse", "is_meta", "itemsize", "layout", "max", "min", "rangelist",
    "requires_grad", "shape", "tolist", "type", "unchecked_cast", "unchecked_unwrap_optional", "isinstance",
    "index",
})  # fmt: skip
_OTHER_TORCH = frozenset({"__is__", "__isnot__", "__not__", "__contains__"})
# Wherever they stand, also where the two parsers, Python's and TorchScript's, might disagree about the text.
_NEVER = re.compile(r"\b(from_file|save|__setstate__|__getstate__|torch\s*\.\s*classes)\b")
_PICKLED = re.compile(
    r"__torch__\.(?!torch\.classes)[\w.]+|torch\.jit\._pickle\.\w+|torch\._utils\._rebuild_tensor_v2|"
    r"torch\.\w+Storage|torch\.device|collections\.OrderedDict"
)
_TOLERANCE = 1e-4


def load_torchscript(path: Path, example_inputs: Sequence[Tensor] | None) -> fx.GraphModule:
    """Return the network of a TorchScript archive as ordinary layers and a graph.

    Args:
        path: the archive.
        example_inputs: what the network takes; torch.export follows the program with them.

    Raises:
        InputError: the archive is damaged, could do more than compute, or torch.export cannot follow it.
    """
    with reading(path):
        records = {name: data for name, data in read_records(path).items() if _KEPT.fullmatch(name)}
        _check(path, records)
        jit: Any = torch.jit
        if not example_inputs:
            raise InputError(
                f"{path} is TorchScript, which does not say what its inputs look like. "
                "Give the shape of the input with --input, for instance --input 1x3x32x32."
            )
        script = jit.load(write_archive(records), map_location="cpu").eval()
        _check_names(path, script)
        return _converted(path, script, tuple(example_inputs))


def _check(path: Path, records: dict[str, bytes]) -> None:
    sources = {name: data for name, data in records.items() if name.endswith(".py")}
    nodes = [node for name, data in sources.items() for node in ast.walk(_parsed(path, name, data))]
    methods = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    refused = {match[0] for data in sources.values() for match in _NEVER.finditer(data.decode("ascii"))}
    refused |= set(_refused(nodes, methods))
    for name, data in records.items():
        if name.endswith(".pkl"):
            asked = (".".join(pair) for pair in globals_in(data))
            refused |= {full_name for full_name in asked if not _PICKLED.fullmatch(full_name)}
    if refused:
        listing = ", ".join(shown(name) for name in sorted(refused))
        raise InputError(
            f"{path} is TorchScript that does more than compute, so nothing of it was loaded: {listing}. "
            "Save the network with torch.export.save, or its weights with torch.save(model.state_dict(), ...)."
        )


def _parsed(path: Path, name: str, data: bytes) -> ast.Module:
    """Return the parsed code; refuse text in which Python's parser and TorchScript's might see different tokens."""
    text = data.decode("ascii", "replace")
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        strings = [token.string for token in tokens if token.type == tokenize.STRING]
        odd = any(string[0] not in "'\"" or string[:3] in ("'''", '"""') for string in strings)
        if odd or re.search(r"[^\n -~]|\\\n", text) or any(token.type == tokenize.ERRORTOKEN for token in tokens):
            raise SyntaxError("not what torch.jit.save writes")
        return ast.parse(text)
    except (SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: {shown(name)} cannot be read as code ({error}). Save it again.") from error


def _refused(nodes: Sequence[ast.AST], methods: set[str]) -> Iterator[str]:
    """Yield every call or name in the code that may do more than compute."""
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            name = _dotted(node)
            root, _, rest = (name or "").partition(".")
            if root == "torch":
                allowed = is_plain_aten(rest) or rest in _OTHER_TORCH
            elif root == "ops":
                space, _, operator = rest.partition(".")
                allowed = (space == "aten" and is_plain_aten(operator)) or (space == "prim" and operator in _PRIM)
            elif root == "__torch__":
                allowed = not rest.startswith("torch.classes")
            else:
                allowed = _method_allowed(node.attr, methods, is_called=id(node) in called)
            if not allowed:
                yield name or f".{node.attr}"
        elif isinstance(node, ast.Attribute) and _dotted(node) is None:
            if not _method_allowed(node.attr, methods, is_called=False):
                yield f".{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id not in _BUILTINS and not re.fullmatch(r"_\d+", node.func.id):
                yield node.func.id
        elif isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute | ast.Name):
            yield "a call of a computed value"
        elif isinstance(node, ast.Subscript) and _dotted(node.value) == "__annotations__":
            if not (isinstance(node.slice, ast.Constant) and re.fullmatch(r"\w+", str(node.slice.value), re.ASCII)):
                yield "an attribute whose name is not a plain name"
        elif isinstance(node, ast.While):
            yield "a while loop, which might never end"


def _method_allowed(name: str, methods: set[str], *, is_called: bool) -> bool:
    is_operator = bool(torch._C._jit_get_schemas_for_operator(f"aten::{name}"))
    if is_operator:
        return is_plain_aten(name)
    return name in methods or not is_called


def _dotted(node: ast.expr) -> str | None:
    """Return "a.b.c" for such an expression, None for any other."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _check_names(path: Path, script: torch.jit.ScriptModule) -> None:
    tensors = [name for name, _ in script.named_parameters()] + [name for name, _ in script.named_buffers()]
    if not tensors:
        raise InputError(
            f"{path} has no weights to train: it was frozen or optimized. Save it before torch.jit.freeze."
        )
    for name in tensors:  # they end up in the Python code that torch compiles
        if not re.fullmatch(r"[\w.]+", name, re.ASCII):
            raise InputError(f"{path} holds a tensor named {shown(name)!r}, which is not a plain name.")


def _converted(path: Path, script: torch.jit.ScriptModule, example_inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    try:
        with torch.no_grad():
            expected = script(*example_inputs)
    except Exception as error:
        reason = shown(str(error).strip().splitlines()[-1], 200)
        raise InputError(f"{path} does not run with the given --input: {reason}") from error
    pairs = tuple(torch.cat([value, value]) if value.shape[:1] == (1,) else value for value in example_inputs)
    failure: Exception | None = None
    for inputs in (pairs, example_inputs):  # with a batch of one, torch.export would fix the batch size
        try:
            parameters = {name for name, _ in script.named_parameters()}
            network = lift(_exported(script, inputs), parameters)
            if lost := parameters - {name for name, _ in network.named_parameters()}:
                raise RuntimeError(f"{len(lost)} of its weights, such as {min(lost)}, would become constants")
            with torch.no_grad():
                actual = network(*example_inputs)
            torch.testing.assert_close(actual, expected, atol=_TOLERANCE, rtol=_TOLERANCE)
            return network
        except Exception as error:  # the converter is torch's own, and raises anything
            failure = error
    reason = shown((str(failure).strip().splitlines() or ["no reason given"])[0], 200)
    raise InputError(
        f"{path} is TorchScript that cannot be turned into layers ({reason}). Save the network from the training code "
        "with torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2'), "
        "or only its weights with torch.save(model.state_dict(), ...) and name the network with --model."
    ) from failure


def _exported(script: torch.jit.ScriptModule, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    from torch._export.converter import TS2EPConverter  # private, and torch's only way from TorchScript to a graph

    converter = TS2EPConverter(script, inputs)
    # The converter takes a buffer for a parameter when it equals one (fresh running_mean and bias are both zero).
    parameters = {name for name, _ in script.named_parameters()}
    state = script.state_dict()
    converter.name_to_param = {name: tensor for name, tensor in state.items() if name in parameters}
    converter.name_to_buffer |= {name: tensor for name, tensor in state.items() if name not in parameters}
    for name in parameters:
        converter.name_to_buffer.pop(name, None)
    return converter.convert()
