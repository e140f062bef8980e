"""Hints that count where the teachers look: at what excites them, or at what some tokens attend to."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.feature.attention_kl import Block, mask_of
from edgekd.losses.feature.feature_loss import FeatureLoss
from edgekd.losses.feature.positions import counted_positions, mean_where
from edgekd.losses.feature.projector import PROJECTOR, Projector, make_projector, project
from edgekd.losses.loss import Evidence
from edgekd.losses.step import Answer, Setup, Step, at_least_float32

FLOOR = 1e-6  # of sums that are divided by


def focused_hint(student: Tensor, teacher: Tensor, focus: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return |M (f_S - f_T)|² / sum_p M_p, (N,), with a mean over the channels. HumP-KD, feature term.

    M is scaled to a mean of 1 over the positions first, so that only its shape matters.

    Args:
        student: features (N, C, H, W), or tokens (N, P, D).
        teacher: features of the same shape; no gradient flows into them.
        focus: M >= 0 a position, (N, P) with P = H W in row order; no gradient flows into it.
        counted: positions that count, a boolean (N, P); None: all.
    """
    distance = (student - teacher.detach()).square().mean(1 if student.ndim == 4 else 2).flatten(1)
    focus = scaled(focus.detach(), counted)
    return (focus.square() * distance).sum(1) / focus.sum(1).clamp(min=FLOOR)


def scaled(focus: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return weights (N, P) scaled to a mean of 1 over the positions that count (N, P), 0 at the others."""
    counted = torch.ones_like(focus) if counted is None else counted.to(focus.dtype)
    focus = focus * counted
    return focus * counted.sum(1, keepdim=True) / focus.sum(1, keepdim=True).clamp(min=FLOOR)


def activation_focus(maps: Sequence[Tensor], size: tuple[int, int], counted: Tensor | None = None) -> Tensor:
    """Return the mean of the maps' channel means of |f|, each resized and scaled to a mean of 1, (N, H W).

    Args:
        maps: features (N, C_k, h_k, w_k), one or more.
        size: (H, W), what they are resized to: bilinearly, or by the mean of an area where it is smaller.
        counted: positions that count (N, H W); the others are 0.
    """
    strength = [
        functional.interpolate(
            at_least_float32(one).abs().mean(1, keepdim=True), size, mode="bilinear", antialias=True
        ).flatten(1)
        for one in maps
    ]
    return torch.stack([scaled(one, counted) for one in strength]).mean(0)


def attention_focus(attention: Tensor, rows: slice, columns: slice, counted: Tensor | None = None) -> Tensor:
    """Return how much the tokens `rows` attend to each of the tokens `columns`, a mean over heads and rows, (N, P).

    Args:
        attention: probabilities (N, heads, queries, keys).
        rows: the tokens that look, such as the text.
        columns: the tokens that are looked at, such as the image's patches.
        counted: which of the queries count (N, queries).
    """
    looked = at_least_float32(attention).mean(1)[:, rows, columns]
    return looked.mean(1) if counted is None else mean_where(looked, counted[:, rows])


class FocusedHint(FeatureLoss):
    """The squared distance of features, weighted a position by where the teachers look."""

    title: ClassVar[str] = "Hints where the teachers look"
    source: ClassVar[str] = "HumP-KD, arXiv 2606.14684, fused spatial mask; Align-KD, arXiv 2412.01282, text focus"
    evidence: ClassVar[Evidence] = "D"
    variant: ClassVar[str] = (
        "magnitudes of activations, scaled to a mean of 1 before they are averaged; attention, averaged over heads, in their "
        "place"
    )
    applies: ClassVar[str] = "maps (N, C, H, W), by activation; tokens (N, L, D), by attention"
    shape: ClassVar[Literal["map"]] = "map"

    kind: Literal["focused-hint"] = "focused-hint"
    by: Literal["activation", "attention"] = Field(
        default="activation", description="where the teachers look: where features are large, or what tokens attend to"
    )
    focus: tuple[str, ...] = Field(
        default=(),
        description="the teachers' taps that show it: maps of any size, or attention probabilities (N, heads, queries, "
        "keys); not set: the map that is compared",
    )
    rows: Block = Field(default=(None, None), description="attention: the tokens that look, first and behind the last")
    columns: Block = Field(
        default=(None, None), description="attention: the tokens looked at, first and behind the last"
    )
    projector: Projector = Field(default="auto", description=PROJECTOR)

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the taps that are compared, and those that show where the teachers look."""
        return (*super().teacher_taps(memory), *self.focus)

    def all_teacher_taps(self) -> tuple[str, ...]:
        """Return the same of every tap that is ever compared."""
        return (*super().all_teacher_taps(), *self.focus)

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return the projector, if there is one.

        Raises:
            InputError: the features, or what shows where teachers look, do not fit.
        """
        if self.by == "attention" and not self.focus:
            raise InputError(f"{self.kind}: by attention needs the tap that gives it: focus = [PATH]")
        shown = self._shown(tuple(setup.teachers.values()), teacher)
        wrong = [tuple(one.shape[1:]) for one in shown if one.ndim != 4]
        if wrong:
            raise InputError(
                f"{self.kind}: {name}: a tap that shows where the teacher looks has the shape {wrong[0]}; choose one that "
                f"gives {'attention (heads, queries, keys)' if self.by == 'attention' else 'a map (C, H, W)'}"
            )
        if teacher.ndim != (3 if self.by == "attention" else 4):
            raise InputError(
                f"{self.kind}: {name}: the teacher's feature has the shape {tuple(teacher.shape[1:])}; by {self.by}, "
                f"choose {'tokens (L, D)' if self.by == 'attention' else 'a map (C, H, W)'}"
            )
        if self.by == "attention" and student.shape[1] != teacher.shape[1]:
            raise InputError(
                f"{self.kind}: {name}: the student's feature has {student.shape[1]} tokens, the teacher's {teacher.shape[1]}; "
                "choose taps of equally many"
            )
        made = make_projector(self.kind, name, student, teacher, self.projector)
        if self.by == "attention":
            for one in shown:
                self._looked_at(teacher, one)
        return made

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the weighted distance of every sample."""
        student, teacher = project(student, teacher, memory)
        shown = self._shown(tuple(step.teachers.values()) or (step.the_teacher,), teacher)
        if self.by == "activation":
            size, counts = (teacher.shape[2], teacher.shape[3]), counted_positions(step, teacher)
            return focused_hint(student, teacher, activation_focus(shown, size, counts), counts)
        chosen = self._looked_at(teacher, shown[0])
        student, teacher, counts = student[:, chosen], teacher[:, chosen], counted_positions(step, teacher)[:, chosen]
        rows, columns = slice(*self.rows), slice(*self.columns)
        parts = [attention_focus(one, rows, columns, mask_of(step.valid, one.shape[2])) for one in shown]
        return focused_hint(student, teacher, torch.stack(parts).mean(0), counts)

    def _shown(self, teachers: Sequence[Answer], compared: Tensor) -> list[Tensor]:
        """Return what shows where the teachers look, of all teachers that have it."""
        if not self.focus:
            return [compared]
        return [answer.features[tap].detach() for tap in self.focus for answer in teachers if tap in answer.features]

    def _looked_at(self, tokens: Tensor, attention: Tensor) -> slice:
        """Return which of the tokens (N, L, D) are looked at: the columns, where L counts all keys, else all L.

        Raises:
            InputError: there is not one token for each column, or no row.
        """
        keys, wanted = attention.shape[3], len(range(attention.shape[3])[slice(*self.columns)])
        rows = len(range(attention.shape[2])[slice(*self.rows)])
        if rows == 0 or wanted == 0 or tokens.shape[1] not in (keys, wanted):
            raise InputError(
                f"{self.kind}: {tokens.shape[1]} tokens are compared, and rows {self.rows} and columns {self.columns} of "
                f"attention over {keys} keys are {rows} and {wanted}; choose as many columns as tokens"
            )
        return slice(*self.columns) if tokens.shape[1] == keys else slice(None)
