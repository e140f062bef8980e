"""The cells of the bench: techniques, combinations and orders as recipes that train equally long.

```
prune -> distill -> quantize   prune  labels 20 %   KD     40 %   quantize  labels 40 %
prune -> quantize              prune  labels 20 %   labels 40 %   quantize  labels 40 %     the same without its distillation
fine-tuned                            labels 20 %   labels 40 %             labels 40 %
```
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from edgekd.errors import InputError
from edgekd.models.signature import Signature
from edgekd.recipe import Recipe, StageSettings
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.target import explain
from edgekd.training.settings import TrainingSettings

BASELINE = "baseline"
FINE_TUNED = "fine-tuned"
UNTRAINED = "quantize, untrained"
SHARES = {"prune": 0.2, "quantize": 0.4, "distill": 0.4}  # of all epochs: arXiv 2604.04988
FEWEST_EPOCHS = len(SHARES)

Order = tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A network to be made by these stages; `problem` says why it cannot be. Untrained ones do not depend on the seed."""

    name: str
    stages: tuple[StageSettings, ...] = ()
    trained: bool = True
    problem: str | None = None

    def in_words(self) -> str:
        """Return the stages in order, trainings with their epochs: `prune, labels 2, distill 4`."""
        return ", ".join(_in_words(stage) for stage in self.stages)


def _in_words(stage: StageSettings) -> str:
    if not isinstance(stage, DistillSettings):
        return stage.kind
    return f"{'labels' if stage.losses == () else 'distill'} {stage.epochs}"


def cells_of(recipe: Recipe, signature: Signature, epochs: int, orders: Sequence[Order] | None = None) -> list[Cell]:
    """Return the untrained cells, each technique, the combinations in the recipe's order, and the orders of all three.

    Stages of the recipe that are none of the three come first in every cell but the baseline.

    Args:
        recipe: whose stages are the techniques; those that it lacks are cells with a problem.
        signature: of the model.
        epochs: of every trained cell.
        orders: of all three, to try beside the recipe's own; not set: all six.

    Raises:
        InputError: too few epochs, or a recipe that cannot be rearranged.
    """
    if epochs < FEWEST_EPOCHS:
        raise InputError(f"--epochs {epochs}: each of the {FEWEST_EPOCHS} trainings needs one at least")
    techniques = {stage.kind: stage for stage in recipe.stages if stage.kind in SHARES}
    first = tuple(stage for stage in recipe.stages if stage.kind not in SHARES)
    if not techniques:
        raise InputError(f"recipe {recipe.name} has neither {' nor '.join(SHARES)}: there is nothing to compare")
    if len(techniques) + len(first) < len(recipe.stages):
        raise InputError(f"recipe {recipe.name} has a technique twice; the bench arranges each once")
    parts = _Parts(recipe.name, first, techniques, signature, epochs)
    own = own_order(recipe)
    usual = (*own, *(name for name in SHARES if name not in own))
    others = itertools.permutations(usual) if orders is None else orders
    cells = [Cell(BASELINE, trained=False), parts.untrained(), parts.cell(usual, ())]
    for count in range(1, len(usual)):
        cells += [parts.cell(usual, taken) for taken in itertools.combinations(usual, count)]
    return cells + [parts.cell(order, order) for order in dict.fromkeys((usual, *others))]


def own_order(recipe: Recipe) -> Order:
    """Return the techniques of a recipe in its order."""
    return tuple(stage.kind for stage in recipe.stages if stage.kind in SHARES)


def name_of(taken: Sequence[str]) -> str:
    """Return the name of the cell in which these techniques follow each other."""
    return " -> ".join(taken) or FINE_TUNED


def read_order(text: str) -> Order:
    """Read an order of all three techniques, such as `prune,quantize,distill`.

    Raises:
        InputError: a technique is missing, strange, or there twice.
    """
    order = tuple(name.strip() for name in text.split(","))
    if sorted(order) != sorted(SHARES):
        raise InputError(f"--order {text}: name each of {', '.join(SHARES)} once, separated by commas")
    return order


def split_epochs(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return whole epochs as near to the shares as can be, one at least each."""
    counts = dict.fromkeys(shares, 1)
    for _ in range(total - len(counts)):
        counts[max(shares, key=lambda name: shares[name] * total - counts[name])] += 1
    return counts


@dataclass(frozen=True)
class _Parts:
    """What cells are made of: the recipe's techniques, and what stands before them."""

    recipe: str
    first: tuple[StageSettings, ...]
    techniques: Mapping[str, StageSettings]
    signature: Signature
    epochs: int

    def cell(self, order: Order, taken: Sequence[str]) -> Cell:
        """Return the cell of an order in which these techniques take part."""
        return self._made(name_of(taken), taken, lambda: (*self.first, *self._arranged(order, taken)))

    def untrained(self) -> Cell:
        """Return quantization alone, without any training."""
        return self._made(
            UNTRAINED,
            ("quantize",),
            lambda: (*self.first, _changed(self.techniques["quantize"], simulate=False)),
            trained=False,
        )

    def _made(self, name: str, taken: Sequence[str], stages: Any, *, trained: bool = True) -> Cell:
        missing = [one for one in taken if one not in self.techniques]
        if missing:
            return Cell(name, (), trained, f"recipe {self.recipe} has no {' and no '.join(missing)} stage")
        try:
            return Cell(name, stages(), trained)
        except InputError as error:
            return Cell(name, (), trained, str(error))

    def _arranged(self, order: Order, taken: Sequence[str]) -> Iterator[StageSettings]:
        """Yield the stages: each technique's change, if it takes part, and then its share of the training."""
        distill = self.techniques.get("distill")
        assert distill is None or isinstance(distill, DistillSettings)
        for name, epochs in ((name, split_epochs(self.epochs, SHARES)[name]) for name in order):
            if name == "distill" and name in taken and distill is not None:
                yield _lasting(distill, epochs, self.signature)
                continue
            if name in taken:
                stage = self.techniques[name]
                yield _simulated(stage) if isinstance(stage, QuantizeSettings) else stage
            yield _on_labels(distill, epochs)


def _simulated(settings: QuantizeSettings) -> StageSettings:
    """Return a quantization as what is trained afterwards.

    Raises:
        InputError: it cannot be.
    """
    try:
        return settings.simulated()
    except ValidationError as error:
        raise InputError(f"{settings.kind}: {explain(error)}") from error


def _changed(settings: StageSettings, **changes: Any) -> StageSettings:
    """Return settings with changes, checked again.

    Raises:
        InputError: they do not go together.
    """
    try:
        return type(settings).model_validate({**settings.model_dump(exclude_unset=True), **changes})
    except ValidationError as error:
        raise InputError(f"{settings.kind}: {explain(error)}") from error


def _lasting(distill: DistillSettings, epochs: int, signature: Signature) -> DistillSettings:
    """Return a distillation of so many epochs; its phases keep their proportions.

    Raises:
        InputError: it may stop early, or has more phases than epochs.
    """
    _check_length(distill)
    if not distill.phases:
        return distill.model_copy(update={"epochs": epochs})
    if epochs < len(distill.phases):
        raise InputError(f"distill: {epochs} epochs are fewer than its {len(distill.phases)} phases; raise --epochs")
    total = distill.total_epochs(signature)
    counts = split_epochs(epochs, {one.name: (one.epochs or distill.epochs) / total for one in distill.phases})
    phases = tuple(one.model_copy(update={"epochs": counts[one.name]}) for one in distill.phases)
    return distill.model_copy(update={"phases": phases, "epochs": epochs})


def _on_labels(distill: DistillSettings | None, epochs: int) -> DistillSettings:
    """Return training as that of the distillation, but on labels alone.

    Raises:
        InputError: it may stop early.
    """
    training: dict[str, Any] = {}
    if distill is not None:
        _check_length(distill)
        training = distill.model_dump(include=set(TrainingSettings.model_fields), exclude_unset=True)
    return DistillSettings.model_validate({**training, "epochs": epochs, "task": 1.0, "losses": []})


def _check_length(distill: DistillSettings) -> None:
    if distill.patience is not None:
        raise InputError("distill.patience may stop a training early, and all cells train equally long; leave it out")
