"""What holds for every rewrite: keeping, taking back, the cache, and what is refused."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from edgekd import host
from edgekd.device.comparison import Interleaved
from edgekd.device.latency import Warmup
from edgekd.errors import InputError, StageError
from edgekd.recipe import parse_recipe
from edgekd.stages import KINDS
from edgekd.stages.rewrite import STAGE
from edgekd.stages.rewrite.verification import difference_of

from .helpers import begin, lively, rewritten, settings


def small(folder: Path, **further: Any) -> Any:
    network = lively(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)))
    return begin(network, folder, (6,), target="generic-x86", **further)


def timing(monkeypatch: pytest.MonkeyPatch, after: float) -> list[Any]:
    """Say that this machine is the target, and that a file takes 1 ms before and so many after a rewrite."""
    asked: list[Any] = []

    def time_files(files: dict[str, Path], *_: Any, **further: Any) -> Interleaved:
        asked.append((files, further))
        assert all(path.is_file() for path in files.values())
        blocks = {"before": [np.full(8, 1.0)] * 20, "after": [np.full(8, after)] * 20}
        return Interleaved(blocks, dict.fromkeys(files, Warmup(1, 1.0, True)), {file: [1.0] for file in files})

    monkeypatch.setattr(host, "is_target", lambda target, machine: True)
    monkeypatch.setattr(host, "time_files", time_files)
    return asked


@pytest.mark.parametrize(
    ("after", "kept", "verdict"), [(1.5, False, "slower"), (1.0, False, "not distinguishable"), (0.5, True, "faster")]
)
def test_what_is_not_faster_on_the_target_is_taken_back(
    after: float, kept: bool, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing(monkeypatch, after)
    said: list[str] = []
    state, context = small(tmp_path, log=said.append)
    made = rewritten(state, context, "fold-batch-norm")
    (note,) = made.notes["rewrites"]
    assert note["kept"] is kept and note["latency"]["verdict"] == verdict
    assert len(made.torch.edits) == kept
    assert (f"taken back, it does not pay: {verdict}, x{1 / after:.3f} on " in said[0]) is not kept
    assert ('keep = "always" keeps it' in said[0]) is not kept


@pytest.mark.parametrize(("after", "kept"), [(1.5, False), (1.0, True)])
@pytest.mark.parametrize(
    ("rewrite", "why"),
    [
        ({"kind": "low-rank", "rank": 4}, r"the file gets \d\d% smaller"),
        ({"kind": "kv-low-rank", "layers": [["key", "value"]], "to_values": 0.1}, "saves values a token in a cache"),
    ],
)
def test_what_is_as_fast_as_before_needs_another_reason(
    rewrite: dict[str, Any], why: str, after: float, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly all bytes lie in `wide`, which only the first rewrite makes smaller."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.key, self.value, self.wide = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4096)

        def forward(self, x: Tensor) -> Tensor:
            return self.wide((self.key(x) * self.value(x)).relu())

    timing(monkeypatch, after)
    said: list[str] = []
    state, context = begin(Net(), tmp_path, (6,), target="generic-x86", log=said.append)
    (note,) = rewritten(state, context, rewrite).notes["rewrites"]
    assert note["kept"] is kept
    assert bool(re.search(f"kept: it is not faster, but .*{why}", said[0])) is kept


def test_always_times_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timing(monkeypatch, 1.5)
    state, context = small(tmp_path)
    made = rewritten(state, context, "fold-batch-norm", keep="always")
    assert asked == [] and len(made.torch.edits) == 1 and "latency" not in made.notes["rewrites"][0]


def test_what_can_change_the_outcome_is_in_the_key(tmp_path: Path) -> None:
    _, context = small(tmp_path)
    assert "machine" in STAGE.depends_on(settings("fold-batch-norm"), context)
    assert "machine" not in STAGE.depends_on(settings("fold-batch-norm", keep="always"), context)
    limits = context.target.limits.model_copy(update={"operators": ("Relu",)})
    other = replace(context, target=context.target.model_copy(update={"limits": limits}))
    assert STAGE.depends_on(settings("fold-batch-norm"), other) != STAGE.depends_on(
        settings("fold-batch-norm"), context
    )


def test_the_tolerance_of_the_settings_holds(tmp_path: Path) -> None:
    state, context = small(tmp_path)
    with pytest.raises(StageError, match=r"more than tolerance = 1e-12; raise it, or leave the rewrite out"):
        rewritten(state, context, {"kind": "fold-batch-norm", "tolerance": 1e-12}, keep="always")


def test_forms_by_settings(tmp_path: Path) -> None:
    torch_only, both, file_only = (
        settings("fold-batch-norm"),
        settings("fold-batch-norm", "fold-constants"),
        settings("fold-constants"),
    )
    assert STAGE.takes(torch_only) == STAGE.takes(both) == {"torch"} and STAGE.takes(file_only) == {"torch", "onnx"}
    assert STAGE.leaves(torch_only, "torch") == "torch"
    assert STAGE.leaves(both, "torch") == STAGE.leaves(file_only, "onnx") == "onnx"


def test_recipes_hold_names_and_tables() -> None:
    text = '[[stage]]\nkind = "rewrite"\nrewrites = ["fold-batch-norm", { kind = "low-rank", rank = 4 }]'
    recipe = parse_recipe(text, KINDS)
    stored = recipe.to_json()["stages"][0]["rewrites"]
    assert [one["kind"] for one in stored] == ["fold-batch-norm", "low-rank"] and stored[1]["rank"] == 4
    for wrong, words in (
        ('["fold"]', "no rewrite 'fold'"),
        ("[]", "name one at least"),
        ('[{ kind = "low-rank", rnk = 4 }]', "the rewrite 'low-rank' has no setting 'rnk'; did you mean 'rank'"),
    ):
        with pytest.raises(InputError, match=words):
            parse_recipe(f'[[stage]]\nkind = "rewrite"\nrewrites = {wrong}', KINDS)


def test_outputs_that_are_not_numbers_or_changed_shape_never_pass() -> None:
    before = {"output": np.ones((4, 2), np.float32)}
    with pytest.raises(StageError, match="values of the output output are no longer finite"):
        difference_of(before, {"output": np.full((4, 2), np.nan, np.float32)})
    with pytest.raises(StageError, match="the outputs changed from"):
        difference_of(before, {"output": np.ones((4, 3), np.float32)})
