"""The teacher is a table of vectors: of classes, words or senses."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import PENULTIMATE
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.step import Setup, Step, at_least_float32


def embedding_distance(student: Tensor, vectors: Tensor) -> Tensor:
    """Return 1 - cos(h, e), (...), of states (..., D) and the vectors they should point along; 0 where a vector is zero."""
    vectors = vectors.detach()
    known = vectors.square().sum(-1) > 0
    return torch.where(known, 1 - functional.cosine_similarity(student, vectors, dim=-1), 0)


class Table(nn.Module):
    """The rows (R, D) of a file, and the student's map to their width, where one is needed."""

    rows: Tensor | None

    def __init__(self, projector: nn.Module | None, rows: Tensor | None) -> None:
        super().__init__()
        self.projector = projector
        self.register_buffer("rows", rows, persistent=False)  # read again from its file

    def look_up(self, index: Tensor) -> Tensor:
        """Return the rows of an index (...), zeros where it is negative."""
        assert self.rows is not None
        return torch.where((index >= 0).unsqueeze(-1), self.rows[index.clamp(min=0)], 0)


class EmbeddingTable(Loss):
    """1 - cos(P h, e): the student's state points along the vector of its class, word or sense.

    The vectors are rows of `table`, by the labels or by an array of the data set (`index`); or, without a table, the
    teacher's output. Costs nothing at inference.
    """

    capability: ClassVar[Capability] = "C05"
    title: ClassVar[str] = "Embedding table"
    source: ClassVar[str] = "Decoder-based sense distillation (DSKD)"
    evidence: ClassVar[Evidence] = "S"
    variant: ClassVar[str] = "cosine distance behind a linear map"
    applies: ClassVar[str] = "vectors (N, D) of samples, or tokens (N, L, D) with an index (N, L)"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "vector"
    exempt: ClassVar[dict[str, str]] = {
        "zero": "1 - cos(h, e) compares a feature h with an output e, unequal where h_S = h_T"
    }

    kind: Literal["embedding-table"] = "embedding-table"
    tap: str = Field(default=PENULTIMATE, description="the student's state")
    table: Path | None = Field(
        default=None, description="an .npy file of rows; not set: the teacher's output is the vectors"
    )
    index: str | None = Field(
        default=None, description="array of the data set with row numbers, negative: none; not set: the labels"
    )
    output: str | None = Field(default=None, description="the teacher's output, without a table; not set: the first")

    @model_validator(mode="after")
    def _index_of_a_table(self) -> "EmbeddingTable":
        if self.index is not None and self.table is None:
            raise ValueError("index says which row of a table; give the table's file too")
        return self

    def student_taps(self) -> tuple[str, ...]:
        """Return the student's tap."""
        return (self.tap,)

    def prepare(self, setup: Setup) -> Table:
        """Return the table and the map.

        Raises:
            InputError: the file holds no rows, or there is neither a table nor a teacher.
        """
        student = at_least_float32(setup.student.features[self.tap])
        rows = None if self.table is None else _read(self.table).to(student.device, student.dtype)
        if rows is None and not setup.teachers:
            raise InputError(
                f"{self.kind}: there is no teacher to give vectors; write table = the path of an .npy file"
            )
        width = (rows if rows is not None else next(iter(setup.teachers.values())).output(self.output)).shape[-1]
        projector = None if width == student.shape[-1] else nn.Linear(student.shape[-1], width).to(student.device)
        return Table(projector, rows)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the distance of every sample or token."""
        assert isinstance(memory, Table)
        student = at_least_float32(step.student.features[self.tap])
        student = student if memory.projector is None else memory.projector(student)
        return embedding_distance(student, at_least_float32(self._vectors(step, memory)))

    def _vectors(self, step: Step, memory: Table) -> Tensor:
        if memory.rows is None:
            return step.the_teacher.output(self.output)
        index = step.targets if self.index is None else step.extras[self.index]
        assert index is not None
        return memory.look_up(index)


def _read(path: Path) -> Tensor:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"embedding-table: {path}: {error}") from error
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating) or not np.isfinite(rows).all():
        raise InputError(
            f"embedding-table: {path}: rows of finite floats (R, D) are needed, not {rows.dtype} {rows.shape}"
        )
    return torch.from_numpy(rows)
