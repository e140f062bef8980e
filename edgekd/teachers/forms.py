"""The forms in which a row of an answer is stored: whole, in half precision, as bits, as text."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from edgekd.errors import InputError
from edgekd.teachers.top_k import dense_logits, split_logits

Array = NDArray[Any]
Parts = Mapping[str, Array]  # what is stored of some rows: arrays that are joined along their first axis


class Form(BaseModel):
    """How rows (N, ...) become parts that are stored, and how chosen rows come back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    def encode(self, rows: Array) -> Parts:
        """Return what is stored of rows (N, ...); parts of further rows are appended along the first axis.

        Raises:
            InputError: rows of this dtype or shape do not go into this form.
        """
        raise TypeError(f"{type(self).__name__} has no encode")

    def decode(self, parts: Parts, chosen: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
        """Return the chosen rows, (len(chosen), *shape)."""
        raise TypeError(f"{type(self).__name__} has no decode")


class Full(Form):
    """As they are: bit for bit."""

    kind: Literal["full"] = "full"

    def encode(self, rows: Array) -> Parts:
        """Return the rows."""
        return {"values": rows}

    def decode(self, parts: Parts, chosen: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
        """Return the rows."""
        return parts["values"][chosen]


class Half(Form):
    """In half precision: |error| <= 2⁻¹¹ |value|, or 2⁻²⁵ for values below 2⁻¹⁴."""

    kind: Literal["half"] = "half"

    def encode(self, rows: Array) -> Parts:
        """Return the rows rounded to the nearest half."""
        if rows.dtype.kind != "f":
            raise InputError(f"values of dtype {rows.dtype} do not go into the form half; choose full")
        with np.errstate(over="ignore"):
            values = rows.astype(np.float16)
        if np.isinf(values[np.isfinite(rows)]).any():
            raise InputError("values beyond 65504 do not go into the form half; choose full")
        return {"values": values}

    def decode(self, parts: Parts, chosen: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
        """Return the rows in float32."""
        return parts["values"][chosen].astype(np.float32)


class TopK(Form):
    """The k highest logits and the probability mass of the rest; see `top_k.split_logits` for the bounds."""

    kind: Literal["top-k"] = "top-k"
    k: int = Field(default=8, ge=1, description="how many logits are kept")
    axis: int = Field(default=1, description="of the classes: 1 for (N, C, ...), -1 for tokens (N, L, C)")

    def encode(self, rows: Array) -> Parts:
        """Return `split_logits` of the rows."""
        axes = rows.ndim
        if rows.dtype.kind != "f" or not -axes < self.axis < axes or self.axis % axes == 0:
            raise InputError(
                f"{axes} axes of dtype {rows.dtype} are no logits with classes on axis {self.axis}; choose full"
            )
        if not np.isfinite(rows.max(self.axis)).all():
            raise InputError("logits without a finite maximum do not go into the form top-k; choose full")
        return split_logits(np.moveaxis(rows, self.axis, -1), self.k)

    def decode(self, parts: Parts, chosen: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
        """Return dense logits in float32."""
        classes = (1, *shape)[self.axis]
        dense = dense_logits({name: part[chosen] for name, part in parts.items()}, classes)
        return np.ascontiguousarray(np.moveaxis(dense, -1, self.axis))


class Bits(Form):
    """Masks of zeros and ones, eight to a byte: exact."""

    kind: Literal["bits"] = "bits"

    def encode(self, rows: Array) -> Parts:
        """Return the rows packed."""
        if not ((rows == 0) | (rows == 1)).all():
            raise InputError("only masks of zeros and ones go into the form bits; choose full")
        return {"bits": np.packbits(rows.reshape(len(rows), -1) == 1, axis=1)}

    def decode(self, parts: Parts, chosen: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
        """Return the rows unpacked, as booleans."""
        unpacked = np.unpackbits(parts["bits"][chosen], axis=1, count=math.prod(shape))
        return unpacked.astype(np.bool_).reshape(len(chosen), *shape)


class Text(Form):
    """Texts as `text_tensor` makes them, each in its own length: exact; rows come back as long as the longest chosen."""

    kind: Literal["text"] = "text"

    def encode(self, rows: Array) -> Parts:
        """Return the bytes of all texts, one after the other, and their lengths."""
        if rows.dtype != np.uint8 or rows.ndim != 2:
            raise InputError(f"values of dtype {rows.dtype} are no texts; use text_tensor, or choose full")
        used = rows != 0
        lengths = np.where(used.any(1), rows.shape[1] - used[:, ::-1].argmax(1), 0) if rows.shape[1] else used.sum(1)
        return {"bytes": rows[np.arange(rows.shape[1]) < lengths[:, None]], "lengths": lengths.astype(np.int64)}

    def decode(self, parts: Parts, chosen: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
        """Return the bytes, filled up with zeros."""
        lengths = parts["lengths"]
        ends = np.cumsum(lengths)
        rows = np.zeros((len(chosen), int(lengths[chosen].max(initial=0))), np.uint8)
        for row, position in zip(rows, chosen, strict=True):
            row[: lengths[position]] = parts["bytes"][ends[position] - lengths[position] : ends[position]]
        return rows


def _from_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnyForm = Annotated[Full | Half | TopK | Bits | Text, Field(discriminator="kind"), BeforeValidator(_from_name)]
