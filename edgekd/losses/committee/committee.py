"""Several teachers become one answer."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.loss import find_kind
from edgekd.losses.method import Method
from edgekd.losses.step import Answer, Setup, Step

COMMITTEES: dict[str, type["Committee"]] = {}


class Committee(Method):
    """How the answers of several teachers become the one that losses compare with.

    A subclass with a `kind` of its own registers itself.
    """

    registry: ClassVar[dict[str, Any]] = COMMITTEES
    capability: ClassVar[str] = "C04"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher"})

    @classmethod
    def example(cls) -> "Committee":
        """Return settings for the tests that hold for every committee."""
        return cls()  # type: ignore[call-arg]

    def student_taps(self) -> tuple[str, ...]:
        """Return the module paths of the student whose outputs are captured."""
        return ()

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return what lives only in training, or None.

        Raises:
            InputError: the teachers' main outputs differ in shape.
        """
        shapes = {name: tuple(answer.output().shape[1:]) for name, answer in setup.teachers.items()}
        if len(set(shapes.values())) > 1:
            raise InputError(
                f"{self.kind}: the teachers' outputs have the shapes {shapes}; take teachers of equal outputs"
            )
        return None

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Answer:
        """Return the committee's answer from `step.teachers`; no gradient flows into teachers."""
        raise TypeError(f"{type(self).__name__} has no __call__")

    def loss(self, step: Step, answer: Answer, memory: nn.Module | None) -> Tensor | None:
        """Return what trains `memory` beside the losses (a meta network's own loss, a load regulariser), or None."""
        return None

    def wanted(self, sample_ids: Tensor, memory: nn.Module | None) -> dict[str, Tensor] | None:
        """Return for every teacher a mask (N,) of the samples that it must answer; None: all.

        A teacher whose features a loss asks for is run on all.
        Teachers are not run on the others: those rows of `step.teachers[name].outputs` are zeros then, and `__call__` gives
        them no weight.
        """
        return None

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Do what is due after an epoch."""


def _find_committee(value: Any) -> Any:
    import edgekd.losses  # noqa: F401  # registers all

    return find_kind(value, COMMITTEES, "committee")


AnyCommittee = Annotated[SerializeAsAny[Committee], BeforeValidator(_find_committee)]
