"""Ranking lists learned from a teacher's scores, with contrast and sparsity: the sparse retriever's objective."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.logit.score_regression import check_candidates
from edgekd.losses.loss import Capability, Evidence, OutputLoss
from edgekd.losses.schedule import Schedule, Temperature, constant
from edgekd.losses.step import Setup, Step, at_least_float32


def listwise_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0, counts: Tensor | None = None) -> Tensor:
    """Return KL(softmax(t / T) || softmax(s / T)) over the candidates, for every query.

    Args:
        student: scores (N, K).
        teacher: scores of the same shape; no gradient flows into them.
        temperature: T > 0.
        counts: boolean (K,) or (N, K), the candidates that count; None: all.

    Returns:
        (N,), in at least float32.
    """
    log_s = torch.log_softmax(leave_out(at_least_float32(student) / temperature, counts), -1)
    log_t = torch.log_softmax(leave_out(at_least_float32(teacher.detach()) / temperature, counts), -1)
    return (log_t.exp() * (log_t - log_s)).sum(-1)


def info_nce(positive: Tensor, candidates: Tensor, temperature: float = 1.0, counts: Tensor | None = None) -> Tensor:
    """Return log sum_k exp(s_k / T) - s_+ / T, for every query: InfoNCE, van den Oord et al., 2018, equation 4.

    Args:
        positive: scores (N,) of the positive candidates.
        candidates: scores (N, K) of all candidates, the positive one among them.
        temperature: T > 0.
        counts: boolean (K,) or (N, K), the candidates that count; None: all.

    Returns:
        (N,), in at least float32.
    """
    scores = leave_out(at_least_float32(candidates) / temperature, counts)
    return torch.logsumexp(scores, -1) - at_least_float32(positive) / temperature


def flops(weights: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return sum_j (mean_b |w_bj|)², the expected multiplications of a sparse product; Paria et al., 2020.

    Args:
        weights: term weights (B, V) of B texts over V terms.
        counts: boolean (B,), the texts that count; None: all.

    Returns:
        A scalar, in at least float32.
    """
    size = at_least_float32(weights).abs()
    if counts is None:
        return size.mean(0).square().sum()
    size = torch.where(counts[:, None], size, 0.0)
    return (size.sum(0) / counts.sum().clamp(min=1)).square().sum()


def quadratic_ramp(progress: float, until: float) -> float:
    """Return min(1, progress / until)²; 1 throughout where `until` is 0."""
    return 1.0 if progress >= until else (progress / until) ** 2


def leave_out(scores: Tensor, counts: Tensor | None) -> Tensor:
    """Return scores that give what does not count no probability (a finite value: rows of none stay finite)."""
    return scores if counts is None else scores.masked_fill(~counts, torch.finfo(scores.dtype).min / 2)


class Listwise(OutputLoss):
    """Divergence of the rankings, plus contrast with other candidates, plus few terms a text."""

    capability: ClassVar[Capability] = "C01"
    title: ClassVar[str] = "Listwise KL with InfoNCE and FLOPS regulariser"
    source: ClassVar[str] = "LLM distillation for conversational search, arXiv 2606.04650; FLOPS: arXiv 2004.05665"
    evidence: ClassVar[Evidence] = "A"
    variant: ClassVar[str] = "one temperature for both softmaxes, constants, and which texts are regularised"
    applies: ClassVar[str] = "scores (N, K) of K candidates a query, the positive one first"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})
    exempt: ClassVar[dict[str, str]] = {"zero": "InfoNCE = log sum_k exp(s_k) - s_0 > 0 for all finite scores"}

    kind: Literal["listwise"] = "listwise"
    temperature: Temperature = Field(default=constant(1.0), description="T of both softmaxes over the candidates")
    contrast: Schedule = Field(default=constant(0.2), description="coefficient of InfoNCE; 0 leaves it out")
    query: str | None = Field(default=None, description="output with the queries' term weights (N, V)")
    documents: str | None = Field(
        default=None,
        description="output with the candidates' term weights (N, K, V); with `query`, InfoNCE compares with the whole batch",
    )
    sparsity: Schedule = Field(
        default=constant(3e-4), description="coefficient of the FLOPS regulariser of named outputs"
    )
    ramp: float = Field(
        default=0.3, ge=0, le=1, description="share of training over which `sparsity` grows quadratically"
    )

    def prepare(self, setup: Setup) -> None:
        """Check that both score the same candidates, and the named term weights.

        Raises:
            InputError: they do not fit.
        """
        scores = setup.student.output(self.output)
        check_candidates(self.kind, scores, [answer.output(self.output) for answer in setup.teachers.values()])
        for name, leading in ((self.query, scores.shape[:1]), (self.documents, scores.shape)):
            if name is not None and (
                name not in setup.student.outputs or setup.student.output(name).shape[:-1] != leading
            ):
                found = {key: tuple(value.shape) for key, value in setup.student.outputs.items()}
                raise InputError(
                    f"{self.kind}: {name!r} must be an output of the student of the shape {(*leading, 'terms')}; its outputs "
                    f"are {found}; name the output with the term weights, or leave the field out"
                )

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the objective (N,); the regulariser is a constant of the batch."""
        temperature = self.temperature.at(step.progress)
        loss = listwise_kl(student, teacher, temperature)
        terms = {name: at_least_float32(step.student.output(name)) for name in (self.query, self.documents) if name}
        gathered = {name: step.gather(weights) for name, weights in terms.items()}
        counts = step.gather(step.valid) if terms and step.valid is not None and step.valid.ndim == 1 else None

        positive, candidates, counted = student[:, 0], student, None
        if self.query is not None and self.documents is not None:
            query, documents = terms[self.query], gathered[self.documents]
            positive = (query * terms[self.documents][:, 0]).sum(-1)
            candidates = query @ documents.flatten(0, 1).T
            counted = None if counts is None else counts.repeat_interleave(documents.shape[1])
        loss = loss + self.contrast.at(step.progress) * info_nce(positive, candidates, temperature, counted)

        for weights in gathered.values():
            texts = None if counts is None else counts.repeat_interleave(weights[0].numel() // weights.shape[-1])
            strength = self.sparsity.at(step.progress) * quadratic_ramp(step.progress, self.ramp)
            loss = loss + strength * flops(weights.flatten(0, -2), texts)
        return loss
