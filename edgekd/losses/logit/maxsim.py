"""Late interaction: scores from the best match of every query token, learned from the teacher's scores."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.logit.listwise import listwise_kl
from edgekd.losses.loss import Capability, Evidence, Loss
from edgekd.losses.schedule import Temperature, constant
from edgekd.losses.step import Answer, Step, at_least_float32


def maxsim(
    query: Tensor, documents: Tensor, query_mask: Tensor | None = None, document_mask: Tensor | None = None
) -> Tensor:
    """Return S_nm = sum_i max_j <q_ni, d_mj>; Khattab and Zaharia, 2020, equation 3.

    Args:
        query: token embeddings (N, Q, D).
        documents: token embeddings (M, L, D).
        query_mask: boolean (N, Q), the tokens that count; None: all.
        document_mask: boolean (M, L); a document without tokens scores 0.

    Returns:
        (N, M), in at least float32.
    """
    products = torch.einsum("nqd,mld->nmql", at_least_float32(query), at_least_float32(documents))
    if document_mask is not None:
        products = products.masked_fill(~document_mask[None, :, None], torch.finfo(products.dtype).min)
    best = products.amax(-1)
    if document_mask is not None:
        best = best.masked_fill(~document_mask.any(-1)[None, :, None], 0.0)
    if query_mask is not None:
        best = best.masked_fill(~query_mask[:, None], 0.0)
    return best.sum(-1)


class MaxSim(Loss):
    """Late-interaction scores of every query with every document of the batch, compared with the teacher's.

    Embeddings are outputs of the network; one that is not an output is an array of the data set, e.g. documents embedded
    beforehand. (N, L, D) are tokens, (N, D) a single one. Widths of student and teacher may differ: only scores are compared.
    """

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Late-interaction scores"
    source: ClassVar[str] = "Khattab and Zaharia, arXiv 2004.12832, equation 3; its use last: ColBERT-Zero"
    evidence: ClassVar[Evidence] = "D"
    variant: ClassVar[str] = "the scores compared are those of the whole batch, not of mined candidates"
    applies: ClassVar[str] = "token embeddings (N, L, D) of queries and documents"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "vector"

    kind: Literal["maxsim"] = "maxsim"
    query: str = Field(default="query", description="output (or array of the data set) with the queries' embeddings")
    document: str = Field(default="document", description="output (or array) with the documents' embeddings")
    query_mask: str | None = Field(
        default=None, description="array (N, Q) of the query tokens that count; not set: the padding mask"
    )
    document_mask: str | None = Field(
        default=None, description="array (N, L) of the document tokens that count; not set: the padding mask"
    )
    normalise: bool = Field(default=True, description="compare directions: embeddings are scaled to length 1")
    by: Literal["kl", "mse"] = Field(default="kl", description="KL of the rankings, or squared error of the scores")
    temperature: Temperature = Field(default=constant(1.0), description="T of both softmaxes over the documents")

    @classmethod
    def example(cls) -> "MaxSim":
        """Return settings that compare one output with itself."""
        return cls(query="output", document="output")

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the loss of every query (N,)."""
        student, teacher = self.scores(step, step.student), self.scores(step, step.the_teacher).detach()
        counts = step.gather(step.valid) if step.valid is not None and step.valid.ndim == 1 else None
        if self.by == "kl":
            return listwise_kl(student, teacher, self.temperature.at(step.progress), counts)
        error = (student - teacher).square()
        if counts is None:
            return error.mean(-1)
        return torch.where(counts, error, 0.0).sum(-1) / counts.sum().clamp(min=1)

    def scores(self, step: Step, answer: Answer) -> Tensor:
        """Return the scores (N, M) of the batch's queries with all documents of all processes.

        Raises:
            InputError: an embedding or a mask is missing.
        """
        query, document = (self.tokens(step, answer, name) for name in (self.query, self.document))
        query_mask, document_mask = (
            self.mask(step, query, self.query_mask),
            self.mask(step, document, self.document_mask),
        )
        document_mask = None if document_mask is None else step.gather(document_mask)
        return maxsim(query, step.gather(document), query_mask, document_mask)

    def mask(self, step: Step, tokens: Tensor, name: str | None) -> Tensor | None:
        """Return which tokens (N, L) count: by the array of that name, else by the padding mask where it fits."""
        if name is not None:
            return self.array(step, name).bool()
        return step.valid if step.valid is not None and step.valid.shape == tokens.shape[:2] else None

    def tokens(self, step: Step, answer: Answer, name: str) -> Tensor:
        """Return token embeddings (N, L, D).

        Raises:
            InputError: they are none.
        """
        found = at_least_float32(answer.outputs[name] if name in answer.outputs else self.array(step, name))
        if found.ndim not in (2, 3):
            raise InputError(
                f"{self.kind}: {name} has the shape {tuple(found.shape)}; it takes token embeddings (N, L, D)"
            )
        found = found[:, None] if found.ndim == 2 else found
        return functional.normalize(found, dim=-1) if self.normalise else found

    def array(self, step: Step, name: str) -> Tensor:
        """Return an array of the data set.

        Raises:
            InputError: there is none of that name.
        """
        if name not in step.extras:
            raise InputError(
                f"{self.kind}: neither the network's outputs {list(step.student.outputs)} nor the data set's arrays "
                f"{list(step.extras)} hold {name!r}; name one that does"
            )
        return step.extras[name]
