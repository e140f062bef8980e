import itertools

import pytest

from edgekd.errors import InputError
from edgekd.models.signature import Signature, TensorSpec
from edgekd.recipe import Recipe, parse_recipe
from edgekd.stages import KINDS
from edgekd.stages.distill.settings import DistillSettings
from edgekd.stages.quantize.settings import QuantizeSettings
from edgekd.verbs.bench.cells import Cell, cells_of, read_order, split_epochs

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),))
PRUNE = '[[stage]]\nkind = "prune"\nto_macs = 0.5\n'
DISTILL = '[[stage]]\nkind = "distill"\noptimizer = "adamw"\nlearning_rate = 0.003\nlosses = ["kl"]\n'
QUANTIZE = '[[stage]]\nkind = "quantize"\ncalibrators = ["mse"]\n'


def recipe(text: str) -> Recipe:
    return parse_recipe(text, KINDS, "r")


def cells(text: str, epochs: int = 10, orders: list[tuple[str, ...]] | None = None) -> dict[str, Cell]:
    return {cell.name: cell for cell in cells_of(recipe(text), SIGNATURE, epochs, orders)}


def trainings(cell: Cell) -> list[DistillSettings]:
    return [stage for stage in cell.stages if isinstance(stage, DistillSettings)]


def test_techniques_combinations_and_all_orders() -> None:
    found = cells(PRUNE + DISTILL + QUANTIZE)
    assert {name: cell.in_words() for name, cell in found.items()} == {
        "baseline": "",
        "quantize, untrained": "quantize",
        "fine-tuned": "labels 2, labels 4, labels 4",
        "prune": "prune, labels 2, labels 4, labels 4",
        "distill": "labels 2, distill 4, labels 4",
        "quantize": "labels 2, labels 4, quantize, labels 4",
        "prune -> distill": "prune, labels 2, distill 4, labels 4",
        "prune -> quantize": "prune, labels 2, labels 4, quantize, labels 4",
        "distill -> quantize": "labels 2, distill 4, quantize, labels 4",
        "prune -> distill -> quantize": "prune, labels 2, distill 4, quantize, labels 4",
        "prune -> quantize -> distill": "prune, labels 2, quantize, labels 4, distill 4",
        "distill -> prune -> quantize": "distill 4, prune, labels 2, quantize, labels 4",
        "distill -> quantize -> prune": "distill 4, quantize, labels 4, prune, labels 2",
        "quantize -> prune -> distill": "quantize, labels 4, prune, labels 2, distill 4",
        "quantize -> distill -> prune": "quantize, labels 4, distill 4, prune, labels 2",
    }


@pytest.mark.parametrize("epochs", [3, 4, 7, 10, 101])
def test_every_trained_cell_trains_equally_long_and_alike(epochs: int) -> None:
    found = cells(PRUNE + DISTILL + QUANTIZE, epochs)
    trained = [cell for cell in found.values() if cell.trained]
    assert len(trained) == 13
    for cell in trained:
        parts = trainings(cell)
        assert sum(one.epochs for one in parts) == epochs and len(parts) == 3
        assert {(one.optimizer, one.learning_rate) for one in parts} == {("adamw", 0.003)}
        assert all(one.task.end == 1.0 for one in parts if one.losses == ())
        assert all(stage.simulate for stage in cell.stages if isinstance(stage, QuantizeSettings))
    for name in ("baseline", "quantize, untrained"):
        assert not found[name].trained and not trainings(found[name])
    (alone,) = found["quantize, untrained"].stages
    assert isinstance(alone, QuantizeSettings) and not alone.simulate and alone.calibrators == ("mse",)


def test_the_recipe_s_order_leads() -> None:
    names = list(cells(QUANTIZE + PRUNE + DISTILL, orders=[("prune", "quantize", "distill")]))
    assert names[3:] == [
        "quantize", "prune", "distill", "quantize -> prune", "quantize -> distill", "prune -> distill",
        "quantize -> prune -> distill", "prune -> quantize -> distill",
    ]  # fmt: skip


def test_what_the_recipe_lacks_is_a_cell_with_a_problem() -> None:
    found = cells(DISTILL + QUANTIZE)
    assert found["prune"].problem == "recipe recipe has no prune stage" and not found["prune"].stages
    assert found["distill -> quantize"].problem is None
    assert sum(cell.problem is not None for cell in found.values()) == 9
    assert cells(QUANTIZE)["prune -> distill"].problem is not None
    assert cells(QUANTIZE)["quantize"].in_words() == "quantize, labels 4, labels 2, labels 4"


def test_phases_keep_their_proportions() -> None:
    phases = "".join(
        f'[[stage.phases]]\nname = "{name}"\nepochs = {count}\nlosses = ["kl"]\n'
        for name, count in (("a", 30), ("b", 10))
    )
    text = f'[[stage]]\nkind = "distill"\n{phases}'
    (stage,) = [one for one in trainings(cells(text, 20)["distill"]) if one.losses != ()]
    assert [phase.epochs for phase in stage.phases] == [6, 2] and stage.total_epochs(SIGNATURE) == 8
    assert "fewer than its 2 phases" in (cells(text, 3)["distill"].problem or "")
    assert cells(text, 3)["fine-tuned"].problem is None


def test_settings_that_a_bench_cannot_hold_are_a_problem_of_their_cells() -> None:
    found = cells(PRUNE + DISTILL + QUANTIZE + "accuracy_drop = 0.5\n")
    assert "leave one of them out" in (found["quantize"].problem or "")
    assert found["prune"].problem is None and found["quantize, untrained"].problem is None
    found = cells(PRUNE + DISTILL + "patience = 2\n" + QUANTIZE)
    assert "may stop a training early" in (found["fine-tuned"].problem or "")


@pytest.mark.parametrize(
    ("text", "epochs", "words"),
    [
        (PRUNE, 0, "--epochs 0: each of the 3 trainings"),
        (PRUNE, 2, "--epochs 2"),
        ("", 10, "there is nothing to compare"),
        (PRUNE + PRUNE, 10, "a technique twice"),
    ],
)
def test_what_cannot_be_arranged_is_refused(text: str, epochs: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        cells(text, epochs)


def test_orders_are_read() -> None:
    assert read_order("distill, prune,quantize") == ("distill", "prune", "quantize")
    for wrong in ("prune,quantize", "prune,prune,distill", "prune,quantize,distill,export", ""):
        with pytest.raises(InputError, match="name each of prune, quantize, distill once"):
            read_order(wrong)


def test_epochs_are_split_as_near_to_the_shares_as_whole_ones_can_be() -> None:
    shares = {"a": 0.2, "b": 0.4, "c": 0.4}
    assert split_epochs(10, shares) == {"a": 2, "b": 4, "c": 4}
    assert split_epochs(3, shares) == {"a": 1, "b": 1, "c": 1}
    for total in range(3, 60):
        counts = split_epochs(total, shares)
        assert sum(counts.values()) == total
        assert all(abs(counts[name] - share * total) < 1 for name, share in shares.items())
    assert all(split_epochs(5, dict(zip("abc", one, strict=True)))["abc"[one.index(0.02)]] == 1
               for one in itertools.permutations((0.02, 0.49, 0.49)))  # fmt: skip
