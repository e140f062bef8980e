"""What losses between captured features share: taps, and which teacher layer a student layer is compared with."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.losses.feature.positions import per_sample
from edgekd.losses.loss import Capability, Loss, find_kind
from edgekd.losses.method import Method
from edgekd.losses.step import Setup, Step, at_least_float32

PENULTIMATE = "penultimate"  # a tap: what goes into a network's last linear or convolution layer
POLICIES: dict[str, type["LayerPolicy"]] = {}


class LayerPolicy(Method):
    """Which of the teacher's layers a student's tap is compared with, where that is not fixed by `taps`.

    A subclass with a `kind` of its own registers itself. `needs` lists what it asks of a step, beyond its loss's `needs`.
    """

    registry: ClassVar[dict[str, Any]] = POLICIES
    capability: ClassVar[str] = "C02"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    @classmethod
    def example(cls) -> "LayerPolicy":
        """Return settings for the tests that hold for every policy."""
        return cls()  # type: ignore[call-arg]

    def student_taps(self) -> tuple[str, ...]:
        """Return the student's taps."""
        raise TypeError(f"{type(self).__name__} has no student_taps")

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the teacher's taps that are needed now; the teacher stops behind the last one where nothing else is asked."""
        raise TypeError(f"{type(self).__name__} has no teacher_taps")

    def all_teacher_taps(self) -> tuple[str, ...]:
        """Return every tap of the teacher that is ever needed; `Setup` holds the features of all of them."""
        return self.teacher_taps(None)

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return what lives only in training, or None."""
        return None

    def pairs(self, step: Step, memory: nn.Module | None) -> list[tuple[str, Tensor, Tensor]]:
        """Return (name, student feature, teacher feature) to compare in this step; teacher features are detached."""
        raise TypeError(f"{type(self).__name__} has no pairs")

    def all_pairs(self, step: Step, memory: nn.Module | None) -> list[tuple[str, Tensor, Tensor]]:
        """Return every pair that may ever be compared, for the projectors; `memory` stays as it is."""
        return self.pairs(step, memory)

    def coefficient(self, name: str) -> float:
        """Return how much a pair counts in the mean over the pairs."""
        return 1.0

    def own_loss(self, step: Step, memory: nn.Module | None) -> Tensor | None:
        """Return the scalar that trains `memory` beside the student, or None."""
        return None

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Move on, where it is time to."""


class Fixed(LayerPolicy):
    """The pairs as written."""

    taps: dict[str, str]

    def student_taps(self) -> tuple[str, ...]:
        """Return the keys."""
        return tuple(self.taps)

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the values."""
        return tuple(self.taps.values())

    def pairs(self, step: Step, memory: nn.Module | None) -> list[tuple[str, Tensor, Tensor]]:
        """Return the features of every pair."""
        student, teacher = step.student.features, step.the_teacher.features
        return [(f"{mine}~{yours}", student[mine], teacher[yours].detach()) for mine, yours in self.taps.items()]


def _find_policy(value: Any) -> Any:
    import edgekd.losses  # noqa: F401  # registers all

    return find_kind(value, POLICIES, "layer policy")


class FeatureLoss(Loss):
    """A loss between features of the student and of the teacher, averaged over the pairs.

    `memory` is a module with the entries `pairs` (what `prepare_pair` made for each pair, by position) and `policy`.
    """

    capability: ClassVar[Capability] = "C02"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    shape: ClassVar[Literal["logits", "values", "mask", "vector", "map", "tokens", "series", "attention"]] = "vector"

    taps: dict[str, str] = Field(
        default={PENULTIMATE: PENULTIMATE},
        description="student tap = teacher tap: module paths as in `edgekd inspect`, `PATH:input` for what goes in",
    )
    layers: Annotated[SerializeAsAny[LayerPolicy], BeforeValidator(_find_policy)] | None = Field(
        default=None, description="a policy that chooses the teacher's layers, in place of taps"
    )

    @property
    def policy(self) -> LayerPolicy:
        """Return the policy: the one asked for, else the pairs of `taps`."""
        return self.layers if self.layers is not None else Fixed(kind="fixed", taps=self.taps)

    def student_taps(self) -> tuple[str, ...]:
        """Return the student's taps."""
        return self.policy.student_taps()

    def teacher_taps(self, memory: nn.Module | None = None) -> tuple[str, ...]:
        """Return the teacher's taps that are needed now."""
        return self.policy.teacher_taps(None if memory is None else memory.policy)  # type: ignore[arg-type]

    def all_teacher_taps(self) -> tuple[str, ...]:
        """Return every tap of the teacher that the policy may ever need."""
        return self.policy.all_teacher_taps()

    def prepare(self, setup: Setup) -> nn.Module | None:
        """Return what the policy and every pair need in training."""
        memory = nn.Module()
        policy = self.policy.prepare(setup)
        memory.register_module("policy", policy)
        step = Step(setup.student, setup.teachers, setup.teacher, setup.inputs)
        pairs = nn.ModuleDict()
        for name, student, teacher in self.policy.all_pairs(step, policy):
            made = self.prepare_pair(name, student, teacher, setup)
            if made is not None:
                pairs[name.replace(".", "/")] = made
        memory.pairs = pairs
        return memory

    def prepare_pair(self, name: str, student: Tensor, teacher: Tensor, setup: Setup) -> nn.Module | None:
        """Return what one pair needs in training (a projector), or None.

        Raises:
            InputError: the features do not fit.
        """
        if student.shape[1:] != teacher.shape[1:]:
            raise InputError(
                f"{self.kind}: {name}: the student's feature has the shape {tuple(student.shape[1:])}, the teacher's "
                f"{tuple(teacher.shape[1:])}; choose other taps, or a loss with a projector such as hint"
            )
        return None

    def __call__(self, step: Step, memory: nn.Module | None = None) -> Tensor:
        """Return the mean over the pairs, each with the policy's coefficient."""
        policy = None if memory is None else memory.policy
        made: Any = {} if memory is None else memory.pairs
        losses, coefficients = [], []
        for name, student, teacher in self.policy.pairs(step, policy):  # type: ignore[arg-type]
            key = name.replace(".", "/")
            own = made[key] if key in made else None  # noqa: SIM401  # a ModuleDict has no get
            coefficients.append(self.policy.coefficient(name))
            losses.append(
                coefficients[-1] * self.compare(at_least_float32(student), at_least_float32(teacher), step, own)
            )
        if len({loss.shape for loss in losses}) > 1:  # maps of several sizes
            losses = [per_sample(loss, step.valid) for loss in losses]
        return sum(losses[1:], losses[0]) / sum(coefficients)

    def compare(self, student: Tensor, teacher: Tensor, step: Step, memory: nn.Module | None) -> Tensor:
        """Return the loss of one pair: (N,), (N, positions ...) or a scalar; `memory` is what `prepare_pair` made."""
        raise TypeError(f"{type(self).__name__} has no compare")

    def own_loss(self, step: Step, memory: nn.Module | None = None) -> Tensor | None:
        """Return what trains the policy, or None."""
        return self.policy.own_loss(step, None if memory is None else memory.policy)  # type: ignore[arg-type]

    def end_epoch(self, memory: nn.Module | None, epoch: int) -> None:
        """Let the policy move on."""
        self.policy.end_epoch(None if memory is None else memory.policy, epoch)  # type: ignore[arg-type]
