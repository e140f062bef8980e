"""The teacher is a table of vectors: of classes, words or senses."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.feature_loss import PENULTIMATE
from edgekd.losses.labels import known_labels
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.rows import Rows, read_rows
from edgekd.losses.step import Setup, Step, at_least_float32


def embedding_distance(student: Tensor, vectors: Tensor) -> Tensor:
    """Return 1 - cos(h, e), (...), of states (..., D) and the vectors they should point along; 0 where a vector is zero."""
    vectors = vectors.detach()
    known = vectors.square().sum(-1) > 0
    return torch.where(known, 1 - functional.cosine_similarity(student, vectors, dim=-1), 0)


class Table(nn.Module):
    """The rows (R, D), and the student's map to their width, where one is needed."""

    rows: Tensor

    def __init__(self, projector: nn.Module | None, rows: Tensor) -> None:
        super().__init__()
        self.projector = projector
        self.register_buffer("rows", rows, persistent=False)  # read again from where it came from

    def look_up(self, index: Tensor) -> Tensor:
        """Return the rows of an index (...), zeros where it is negative."""
        return torch.where((index >= 0).unsqueeze(-1), self.rows[index.clamp(min=0)], 0)


class EmbeddingTable(Loss):
    """1 - cos(P h, e): the student's state points along the vector of its class, word or sense.

    There is no network as teacher: e is a row of `table`, by the labels or by an array of the data set (`index`).
    """

    capability: ClassVar[Capability] = "C05"
    title: ClassVar[str] = "Embedding table"
    source: ClassVar[str] = "Decoder-based sense distillation (DSKD)"
    evidence: ClassVar[Evidence] = "S"
    variant: ClassVar[str] = "cosine distance behind a linear map"
    applies: ClassVar[str] = "vectors (N, D) of samples, or tokens (N, L, D) with an index (N, L)"
    needs: ClassVar[frozenset[str]] = frozenset()
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "vector"
    exempt: ClassVar[dict[str, str]] = {
        "zero": "1 - cos(h, e) compares h with a table's row e, whatever a teacher says"
    }

    kind: Literal["embedding-table"] = "embedding-table"
    tap: str = Field(default=PENULTIMATE, description="the student's state")
    table: Rows = Field(description="an .npy file of rows (R, D), or the rows themselves")
    index: str | None = Field(
        default=None, description="array of the data set with row numbers, negative: none; not set: the labels"
    )

    @classmethod
    def example(cls) -> "EmbeddingTable":
        """Return settings with a table of four classes."""
        return cls(table=((1.0, 0.0, 2.0), (0.0, 1.0, 0.0), (0.5, 0.5, -1.0), (0.0, 0.0, 1.0)))

    def student_taps(self) -> tuple[str, ...]:
        """Return the student's tap."""
        return (self.tap,)

    def prepare(self, setup: Setup) -> Table:
        """Return the table and the map.

        Raises:
            InputError: the table holds no rows.
        """
        student = at_least_float32(setup.student.features[self.tap])
        rows = read_rows(self.kind, self.table).to(student.device, student.dtype)
        fits = rows.shape[1] == student.shape[-1]
        return Table(None if fits else nn.Linear(student.shape[-1], rows.shape[1]).to(rows), rows)

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the distance of every sample or token.

        Raises:
            InputError: there is not one state for every row number, a row is missing, or there are no labels.
        """
        assert isinstance(memory, Table)
        student = at_least_float32(step.student.features[self.tap])
        student = student if memory.projector is None else memory.projector(student)
        index = known_labels(step, self.kind) if self.index is None else step.extras[self.index]
        if student.shape[:-1] != index.shape:
            raise InputError(
                f"{self.kind}: the student's states have the shape {tuple(student.shape)}, the row numbers "
                f"{tuple(index.shape)}; choose a tap that gives one state for each of them"
            )
        if index.max() >= len(memory.rows):
            raise InputError(
                f"{self.kind}: there is no row {int(index.max())} in a table of {len(memory.rows)}; give the table a row "
                "for every class or number of the data"
            )
        return embedding_distance(student, memory.look_up(index))
