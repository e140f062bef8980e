"""What a distillation loss is: typed settings around pure functions, found by the name of its kind."""

import difflib
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, model_validator
from torch import Tensor, nn

from edgekd.losses.method import Method
from edgekd.losses.schedule import Schedule, constant
from edgekd.losses.step import Setup, Step, as_classes
from edgekd.losses.weighting import AnyWeight

Evidence = Literal["C", "A", "S", "D"]
Capability = Literal["C01", "C02", "C03", "C04", "C05"]
LOSSES: dict[str, type["Loss"]] = {}


class Loss(Method):
    """A term of the total: weight(progress) x mean(importance x loss(step)).

    A subclass with a `kind` of its own registers itself; it then appears in `edgekd methods`, in the docs, and in the
    tests that hold for every loss. It is a thin wrapper: the mathematics are pure functions beside it.

    `needs` lists what a step must hold: "teacher" (its outputs), "labels", "features" (taps), "batch" (relations between
    samples: features are gathered over processes).
    `elementwise`: `__call__` returns a value a sample (N,) or position (N, ...), so importance weights can be applied;
    otherwise a scalar. `shape` says what the tensors compared look like, for the common tests. `exempt` maps a common
    test to the equation that shows why it does not hold.
    """

    registry: ClassVar[dict[str, Any]] = LOSSES
    capability: ClassVar[Capability]
    evidence: ClassVar[Evidence]
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})
    elementwise: ClassVar[bool] = True
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "logits"
    exempt: ClassVar[dict[str, str]] = {}

    weight: Schedule = Field(default=constant(1.0), description="coefficient: a number, or a schedule")
    importance: AnyWeight | None = Field(default=None, description="how much each sample or position counts")

    @model_validator(mode="after")
    def _has_elements_to_weigh(self) -> Self:
        if self.importance is not None and not self.elementwise:
            raise ValueError(f"importance: {self.kind} is one value a batch, with no samples to weigh; leave it out")
        return self

    @classmethod
    def example(cls) -> "Loss":
        """Return settings for the tests that hold for every loss; a loss without defaults for all fields overrides it."""
        return cls()  # type: ignore[call-arg]

    def student_taps(self) -> tuple[str, ...]:
        """Return the module paths of the student whose outputs are captured (`path`, or `path:input`)."""
        return ()

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the module paths of the teacher that are needed now; `memory` is what `prepare` made."""
        return ()

    def all_teacher_taps(self) -> tuple[str, ...]:
        """Return every module path of the teacher that is ever needed; `Setup` holds the features of all of them."""
        return self.teacher_taps(None)

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return what lives only in training: projectors (parameters), tables and memories (buffers). None: nothing.

        Its parameters are trained with the student's; its state is saved with the training and never exported.

        Raises:
            InputError: the tensors compared do not fit.
        """
        return None

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the loss of a step: elementwise (N,) or (N, ...), or a scalar; see `elementwise`."""
        raise TypeError(f"{type(self).__name__} has no __call__")

    def own_loss(self, step: Step, memory: nn.Module | None = None) -> Tensor | None:
        """Return the scalar that trains `memory` beside the student (a router's), or None; it is added unweighted."""
        return None

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Do what is due after an epoch, e.g. take the table just gathered into use."""


class OutputLoss(Loss):
    """A loss between one output of the student and the same output of the teacher."""

    output: str | None = Field(default=None, description="the output compared; not set: the first")

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Compare the outputs, classes last; a single logit is compared as two classes."""
        student, teacher = (step.class_last(answer.output(self.output)) for answer in (step.student, step.the_teacher))
        if self.shape == "logits":
            student, teacher = as_classes(student), as_classes(teacher)
        return self.compare(student, teacher.detach(), step, memory)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss (N, ...) of logits (N, ..., C)."""
        raise TypeError(f"{type(self).__name__} has no compare")


def find_kind(value: Any, registry: dict[str, Any], what: str, listed: str = "`edgekd methods` lists them") -> Any:
    """Return the settings object that a recipe's text or table describes; `listed` says where all kinds are found.

    Raises:
        ValueError: no kind of that name; the nearest one is named.
    """
    if isinstance(value, BaseModel):
        return value
    table = {"kind": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or not isinstance(table.get("kind"), str):
        raise ValueError(
            f'write the name of a {what}, or a table with its kind, e.g. {{ kind = "{next(iter(registry))}" }}'
        )
    kind = table["kind"]
    if kind not in registry:
        nearest = difflib.get_close_matches(kind, registry, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else listed
        raise ValueError(f"no {what} {kind!r}; {hint}")
    fields = registry[kind].model_fields
    unknown = [name for name in table if name not in fields]
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], fields, n=1, cutoff=0.4)
        settings = ", ".join(name for name in fields if name != "kind")
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {settings}"
        raise ValueError(f"the {what} {kind!r} has no setting {unknown[0]!r}; {hint}")
    return registry[kind].model_validate(table)


def _find_loss(value: Any) -> Any:
    import edgekd.losses  # noqa: F401  # registers all

    return find_kind(value, LOSSES, "loss")


AnyLoss = Annotated[SerializeAsAny[Loss], BeforeValidator(_find_loss)]
