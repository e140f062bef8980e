"""Decides which operators a graph from an untrusted file may contain: those of ATen that only compute."""

import functools
import re
from typing import Any

import torch

# Text that operators take as a mode, an equation, a value to print. A text of any other name could be a file.
_TEXT_ARGUMENTS = frozenset({
    "a", "activation", "approximate", "assert_msg", "b", "chars", "device_type", "driver", "el", "equation",
    "fillchar", "idx", "indexing", "interpolation", "item", "key", "l", "message", "mode", "new", "norm", "old",
    "ord", "p", "pad_mode", "padding", "padding_side", "reduce", "rounding_mode", "s", "self", "separator", "side",
    "string", "substr", "t", "type", "UPLO", "values",
})  # fmt: skip
_UNSAFE_TYPES = re.compile(r"Storage|Stream|RRef|Future|torch\.classes")
# Files, and kernels of special layouts: some trust the indices they are given. A float network has neither.
_NEVER = re.compile(r"from_file|save|load|.*(sparse|nested|quantize|fbgemm|mkldnn|cudnn|miopen).*")

_SYMBOLIC = frozenset({  # arithmetic on sizes
    "_operator.add", "_operator.sub", "_operator.mul", "_operator.floordiv", "_operator.truediv", "_operator.mod",
    "_operator.pow", "_operator.neg", "_operator.pos", "_operator.and_", "_operator.or_", "_operator.eq",
    "_operator.ne", "_operator.lt", "_operator.le", "_operator.gt", "_operator.ge", "_operator.getitem",
    "math.ceil", "math.floor", "math.trunc", "torch._sym_sqrt", "torch.sym_float", "torch.sym_int", "torch.sym_ite",
    "torch.sym_max", "torch.sym_min", "torch.sym_not",
})  # fmt: skip


def is_plain_schema(schema: Any) -> bool:
    """Return whether an operator takes and returns only tensors, numbers and harmless text, and checks them itself."""
    if any(argument.name == "unsafe" for argument in schema.arguments):
        return False
    if any(_UNSAFE_TYPES.search(str(value.type)) for value in (*schema.arguments, *schema.returns)):
        return False
    texts = (argument.name for argument in schema.arguments if re.search(r"\bstr\b", str(argument.type)))
    return all(name in _TEXT_ARGUMENTS for name in texts)


@functools.cache
def is_plain_aten(name: str) -> bool:
    """Return whether `aten::name` exists and every overload of it only computes."""
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    return not _NEVER.fullmatch(name) and bool(schemas) and all(is_plain_schema(schema) for schema in schemas)


def is_allowed_target(target: str) -> bool:
    """Return whether a node of a `.pt2` graph may call this: an ATen operator, or arithmetic on sizes."""
    if target in _SYMBOLIC:
        return True
    parts = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)
    if parts is None or _NEVER.fullmatch(parts[1]):
        return False
    overload = getattr(getattr(torch.ops.aten, parts[1], None), parts[2], None)
    return isinstance(overload, torch._ops.OpOverload) and is_plain_schema(overload._schema)
