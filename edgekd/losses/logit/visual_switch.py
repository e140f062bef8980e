"""The student's visual tokens, read by the teacher's language model (visual switch)."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.logit.dbild import Pairwise
from edgekd.losses.schedule import Share, constant
from edgekd.losses.step import Setup, Step

SWITCH = "switch"  # the teacher's feature that holds its answer to the student's tokens


class TokenAdaptor(nn.Module):
    """Brings the student's tokens (N, ..., D_S) to the teacher's width D_T; nothing to do where they are equal."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.adapt = nn.Identity() if student == teacher else nn.Linear(student, teacher)


class VisualSwitch(Pairwise):
    """(1 - s) DBiLD(z_S, z_T) + s DBiLD(z_sw, z_T).

    z_sw is the teacher's answer when the output of its module `into` is replaced by the student's adapted tokens. The
    training runs the teacher that second time (see `switch_from`, `switch_into`, and the memory's `adapt`) and leaves the
    answer in the teacher's features as "switch", with gradient to the student's tokens.
    """

    title: ClassVar[str] = "Visual switch (Switch-KD)"
    source: ClassVar[str] = "Switch-KD, arXiv 2604.14629"
    variant: ClassVar[str] = "the knee's limits are edgekd's, and the linear adaptor of the tokens where widths differ"
    applies: ClassVar[str] = "vision-language models of one vocabulary whose teacher is at hand: tokens (N, L, C)"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "features", SWITCH})
    exempt: ClassVar[dict[str, str]] = {
        "zero": "z_sw = LM_T(tokens of the student) is another answer than z_T even where z_S = z_T",
        "teacher": "z_sw = LM_T(tokens of the student): its gradient passes the frozen teacher to the student's tokens",
    }

    kind: Literal["visual-switch"] = "visual-switch"
    tokens: str = Field(description="student tap: the visual tokens (N, L, D), as its language model takes them")
    into: str = Field(description="module of the teacher whose output the tokens replace")
    switched: Share = Field(
        default=constant(0.5), description="share of the switched answer; the student's own has the rest"
    )

    @classmethod
    def example(cls) -> "VisualSwitch":
        """Return settings with both names."""
        return cls(tokens="tokens", into="visual")

    @property
    def switch_from(self) -> str:
        """Return the student's tap that gives the tokens."""
        return self.tokens

    @property
    def switch_into(self) -> str:
        """Return the teacher's module whose output they replace."""
        return self.into

    def student_taps(self) -> tuple[str, ...]:
        """Return the tap of the tokens."""
        return (self.tokens,)

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the switched answer; before there is a memory, also the module replaced, for its width."""
        return (SWITCH, self.into) if memory is None else (SWITCH,)

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return the adaptor of the tokens.

        Raises:
            InputError: the tokens differ in number, or there are fewer than three classes.
        """
        super().prepare(setup)
        student = setup.student.features[self.tokens].shape
        teacher = next(iter(setup.teachers.values())).features[self.into].shape
        if student[1:-1] != teacher[1:-1]:
            raise InputError(
                f"{self.kind}: the student's tokens have the shape {tuple(student)}, the teacher's {tuple(teacher)}; only the "
                "last axis may differ: choose taps behind a pooling to the same number of tokens"
            )
        return TokenAdaptor(student[-1], teacher[-1])

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of every element."""
        share = self.switched.at(step.progress)
        switched = step.class_last(step.the_teacher.features[SWITCH])
        own = super().compare(student, teacher, step, memory)
        return (1 - share) * own + share * super().compare(switched, teacher, step, memory)
