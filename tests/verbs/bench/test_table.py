import json
from dataclasses import replace

import pytest

from edgekd.metrics import METRICS
from edgekd.report.bench import markdown
from edgekd.verbs.bench.cells import Cell
from edgekd.verbs.bench.table import Measurement, Row, Table, make_rows, reference_of
from edgekd.verbs.statistics import paired

CELLS = [Cell("baseline", trained=False), Cell("own"), Cell("small"), Cell("bad"), Cell("refused")]
MEASURED = {
    "baseline": [Measurement(90, 4.0, 2.0, 1.0), Measurement(90, 4.0, 2.2, 1.0)],
    "own": [Measurement(88, 1.0, 1.0, 2.0), Measurement(89, 1.0, 1.0, 2.2)],
    "small": [Measurement(80, 0.5, 1.0, 2.0), Measurement(81, 0.5, 1.0, 2.2)],
    "bad": [Measurement(79, 4.0, 3.0, 0.7), Measurement(80, 4.0, 3.0, 0.7)],
    "refused": [Measurement(1, 1, 1, 1)],
}
PROBLEMS = {"refused": "failed with seed 1: why not"}


def rows(metric: str = "accuracy") -> dict[str, Row]:
    return {row.cell.name: row for row in make_rows(CELLS, MEASURED, PROBLEMS, "own", METRICS[metric])}


def test_cells_are_compared_with_the_reference_seed_by_seed() -> None:
    found = rows()
    assert found["own"].against is None and found["refused"].against is None and not found["refused"].measured
    baseline, small = found["baseline"].against, found["small"].against
    assert baseline is not None and small is not None
    assert baseline.difference == paired([2.0, 1.0]) and small.difference.mean == -8
    assert small.corrected >= small.difference.p  # for three comparisons
    worse = rows("mse")["baseline"].against
    assert worse is not None and worse.difference.mean == -1.5  # a difference above 0 is an improvement


def test_the_front_is_what_no_other_cell_beats() -> None:
    assert {name for name, row in rows().items() if row.front} == {"baseline", "own", "small"}
    assert {name for name, row in rows("mse").items() if row.front} == {"small"} | {"bad"}


def test_two_percent_of_time_or_size_are_no_difference() -> None:
    def front(**others: Measurement) -> set[str]:
        measured = {"good": [Measurement(90, 1.0, 1.0, 1.0)]} | {name: [one] for name, one in others.items()}
        made = make_rows([Cell(name) for name in measured], measured, {}, "good", METRICS["accuracy"])
        return {row.cell.name for row in made if row.front}

    assert front(bad=Measurement(50, 0.99, 0.99, 1.0)) == {"good"}
    assert front(smaller=Measurement(50, 0.9, 1.0, 1.0)) == {"good", "smaller"}
    assert front(same=Measurement(90, 1.0, 1.0, 1.0)) == {"good", "same"}


def test_means_and_ratios() -> None:
    found = rows()
    score = found["own"].score
    assert score.mean == 88.5 and score.low == pytest.approx(88.5 - 12.706 * 0.5, abs=0.01)
    assert found["baseline"].score.low is None  # no seed changes it
    assert found["baseline"].milliseconds.low is not None  # measured once a seed
    assert found["own"].score_per_ms == 88.5 and found["small"].score_per_mb == 161
    assert found["own"].speedup.mean == pytest.approx((2.0 * 2.2) ** 0.5)


def test_one_seed_compares_nothing() -> None:
    one = {name: found[:1] for name, found in MEASURED.items()}
    found = make_rows(CELLS, one, PROBLEMS, "own", METRICS["accuracy"])
    assert all(row.against is None for row in found)
    assert [row.score.low for row in found if row.measured] == [None] * 4


def test_without_the_recipe_s_order_the_baseline_is_the_reference() -> None:
    assert reference_of("own", MEASURED, PROBLEMS) == "own"
    assert reference_of("refused", MEASURED, PROBLEMS) == reference_of("never", MEASURED, {}) == "baseline"


def table(metric: str = "accuracy", *, on_target: bool = False) -> Table:
    return Table(
        model="net",
        target="raspberry-pi-5",
        data="some",
        samples=400,
        metric=METRICS[metric],
        epochs={"prune": 2, "quantize": 4, "distill": 4},
        seeds=(0, 1),
        reference="own",
        latency_on="ONNX Runtime, a processor",
        on_target=on_target,
        disturbances=("seed 1: it waited for a core 7 % of the time",),
        rows=tuple(rows(metric).values()),
    )


def test_a_figure_of_another_machine_is_named_so() -> None:
    page = markdown(table())
    assert "p50 ms, this machine" in page and "a processor, which is no raspberry-pi-5" in page
    assert "p50 ms, raspberry-pi-5" in markdown(table(on_target=True))


def test_what_disturbed_a_seed_stands_below() -> None:
    assert "seed 1: it waited for a core 7 % of the time" in markdown(table()).splitlines()[-1]
    assert "waited for a core" not in markdown(replace(table(), disturbances=()))


def test_the_page_has_a_row_for_every_cell() -> None:
    lines = markdown(table()).splitlines()
    count = lines[2].count("|")
    for cell in CELLS:
        (line,) = [one for one in lines if one.startswith(f"| {cell.name} |")]
        assert line.count("|") == count
    assert "left out (1) |" in line and "- (1) failed with seed 1: why not" in lines
    assert "88.50<br>± 6.35" in "\n".join(lines)


def test_a_score_per_ms_only_where_more_is_better() -> None:
    content = json.loads(json.dumps(table().to_json()))
    own = content["cells"][1]
    assert own["score_per_ms"] == 88.5 and own["latency_p50_ms"]["seeds"] == [1.0, 1.0]
    assert "score" not in content["cells"][4] and content["cells"][4]["problem"]
    assert "score_per_ms" not in table("mse").to_json()["cells"][1] and "per ms" not in markdown(table("mse"))
