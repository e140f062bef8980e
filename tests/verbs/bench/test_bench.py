import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import nn

from edgekd.data import Dataset
from edgekd.errors import InputError
from edgekd.recipe import parse_recipe
from edgekd.request import Request
from edgekd.stages import KINDS
from edgekd.verbs.bench.bench import Bench, prepare_bench, preview, run_bench
from edgekd.verbs.bench.table import Row

from .conftest import DATA, DISTILL, PRUNE, QUANTIZE

M28 = ("prune", "quantize", "distill")


def asked(network: nn.Module, folder: Path, stages: str, **options: Any) -> Request:
    recipe = parse_recipe(DATA + stages, KINDS)
    return Request(network, ("generic-x86",), "digits", recipe=recipe, output=folder, threads=1, **options)


def test_cells_are_made_and_compared_and_an_interrupted_bench_goes_on(perceptron: nn.Module, tmp_path: Path) -> None:
    said: list[str] = []

    def interrupt(message: str) -> None:
        said.append(message)
        if "seed 1, cell 4" in message:
            raise KeyboardInterrupt

    request = asked(perceptron, tmp_path / "run", PRUNE + DISTILL)
    made = ("baseline", "prune", "prune -> distill")

    def bench(say: Callable[[str], None]) -> Bench:
        whole = prepare_bench(replace(request, say=say), epochs=3, seeds=2)
        return replace(whole, cells=tuple(cell for cell in whole.cells if cell.name in (*made, "quantize")))

    with pytest.raises(KeyboardInterrupt):
        run_bench(bench(interrupt))
    first = trainings(said)
    assert not (tmp_path / "run" / "bench.json").exists()
    said.clear()
    table = run_bench(bench(said.append))
    assert 0 < len(trainings(said)) < len(first)
    assert len(first) + len(trainings(said)) == 2 * 5  # of the six trainings of two cells one is shared
    rows = {row.cell.name: row for row in table.rows}
    assert [name for name, row in rows.items() if row.measured] == list(made)
    assert rows["quantize"].problem == "recipe recipe has no quantize stage"
    assert table.reference == "prune -> distill" and all(len(rows[name].measured) == 2 for name in made)
    assert len({one.score for one in rows["baseline"].measured}) == 1
    for seed, baseline in enumerate(rows["baseline"].measured):  # ms follow the paired ratio
        found = rows["prune"].measured[seed]
        assert found.milliseconds == pytest.approx(baseline.milliseconds / found.speedup, rel=1e-9)
    assert rows["prune"].megabytes < 0.7 * rows["baseline"].megabytes
    assert scores(rows["prune"]) != scores(rows["prune -> distill"])  # the same but for the loss of one period
    difference = rows["prune"].against
    assert difference is not None and difference.difference.mean == pytest.approx(
        np.mean(scores(rows["prune"])) - np.mean(scores(rows["prune -> distill"]))
    )
    content = json.loads((tmp_path / "run" / "bench.json").read_text())
    assert content["seeds"] == [0, 1] and content["epochs"] == {"prune": 1, "quantize": 1, "distill": 1}
    assert content["software"]["edgekd"] and [cell["name"] for cell in content["cells"]] == list(rows)


def trainings(said: list[str]) -> list[str]:
    return [line for line in said if ": epoch " in line]


def scores(row: Row) -> list[float]:
    return [one.score for one in row.measured]


def test_quantized_orders_are_timed_and_counted_as_int8(perceptron: nn.Module, tmp_path: Path) -> None:
    bench = prepare_bench(
        asked(perceptron, tmp_path / "run", PRUNE + DISTILL + QUANTIZE), epochs=3, seeds=1, orders=[M28]
    )
    assert [cell.name for cell in bench.cells][-2:] == ["prune -> distill -> quantize", "prune -> quantize -> distill"]
    assert bench.problems() == {}
    few = (bench.cells[0], bench.cells[1], bench.cells[-1])
    table = run_bench(replace(bench, cells=few))
    baseline, untrained, order = table.rows
    assert order.megabytes < untrained.megabytes < baseline.megabytes and order.problem is None
    assert table.reference == "baseline" and order.against is None  # one seed
    files = [onnx.load(str(path)) for path in (tmp_path / "run" / "onnx").glob("distill-*.onnx")]
    assert len(files) == 1  # of the stages on the way none is written
    assert any(node.op_type == "DequantizeLinear" for node in files[0].graph.node)


def test_a_cell_that_fails_is_left_out_and_the_others_go_on(perceptron: nn.Module, tmp_path: Path) -> None:
    impossible = PRUNE.replace("0.6", "0.05") + "largest_cut = 0.1\n"
    table = run_bench(prepare_bench(asked(perceptron, tmp_path / "run", impossible), epochs=3, seeds=1))
    rows = {row.cell.name: row for row in table.rows}
    assert "failed with seed 0: pruning cannot reach 5% of the parameters" in (rows["prune"].problem or "")
    assert len(rows["fine-tuned"].measured) == 1 and table.reference == "baseline"


def test_without_labels_nothing_is_trained(perceptron: nn.Module, tmp_path: Path) -> None:
    data = Dataset(inputs={"image": np.random.default_rng(0).random((300, 1, 8, 8), np.float32)})
    request = replace(asked(perceptron, tmp_path / "run", PRUNE + DISTILL + QUANTIZE), data=data)
    bench = prepare_bench(request, epochs=3)
    assert set(bench.problems()) == {cell.name for cell in bench.cells if cell.trained}
    assert set(bench.problems().values()) == {"it is trained on labels, and the data have none"}


def test_what_the_planner_refuses_is_left_out_with_its_reason(perceptron: nn.Module, tmp_path: Path) -> None:
    wrong = QUANTIZE + 'keep_float = ["nothing"]\n'
    problems = prepare_bench(asked(perceptron, tmp_path / "run", PRUNE + DISTILL + wrong), epochs=3).problems()
    assert "quantize -> prune -> distill" in problems and "prune" not in problems
    assert "no module or operator 'nothing'" in problems["quantize"]


def test_a_preview_counts_what_cells_share_once(perceptron: nn.Module, tmp_path: Path) -> None:
    bench = prepare_bench(asked(perceptron, tmp_path / "run", PRUNE + DISTILL), epochs=3, seeds=2)
    planned, seconds = preview(bench)
    assert [one.cell for one in planned] == list(bench.cells) and not (tmp_path / "run").exists()
    each = sum(step.seconds or 0 for one in planned for step in one.steps)
    assert seconds is not None and 0 < seconds < 2 * each


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {"epochs": 2}, "--epochs 2"),
        ({}, {"seeds": 0}, "--seeds 0"),
        ({"targets": ("generic-x86", "raspberry-pi-5")}, {}, "give one --target"),
        ({"targets": ("nir",)}, {}, "the export for nir is not there yet"),
        ({"recipe": "export"}, {}, "recipe export has neither prune nor quantize nor distill"),
    ],
)
def test_what_cannot_work_is_said_before_any_work(
    perceptron: nn.Module, tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        prepare_bench(replace(asked(perceptron, tmp_path / "run", PRUNE), **changes), **options)
    assert not (tmp_path / "run").exists()


def test_seeds_count_up_from_the_one_asked_for(perceptron: nn.Module, tmp_path: Path) -> None:
    bench = prepare_bench(asked(perceptron, tmp_path / "run", PRUNE, seed=5), epochs=3, seeds=3)
    assert bench.seeds == (5, 6, 7)
