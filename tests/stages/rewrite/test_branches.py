from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError, StageError
from edgekd.stages.rewrite.kinds.drop_branches import DropBranches
from edgekd.stages.rewrite.kinds.merge_branches import mergeable
from edgekd.stages.rewrite.settings import RewriteSettings

from .helpers import RepVGG, begin, lively, outputs, rewritten, stored


@pytest.mark.parametrize("in_place", [False, True])
def test_parallel_branches_become_one_convolution(in_place: bool, tmp_path: Path) -> None:
    state, context = begin(lively(RepVGG(in_place=in_place)), tmp_path, (6, 8, 8))
    after = rewritten(state, context, "merge-branches")
    left = [layer for layer in after.torch.module.modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))]
    assert (
        [layer.kernel_size for layer in left if isinstance(layer, nn.Conv2d)]
        == [(3, 3)] * 2
        == [getattr(layer, "kernel_size", None) for layer in left]
    )
    torch.testing.assert_close(outputs(after), outputs(state), rtol=0, atol=1e-5 * float(outputs(state).abs().max()))
    assert torch.equal(outputs(stored(after, tmp_path / "kept")), outputs(after))


def test_the_written_file_has_no_trace_of_the_branches(tmp_path: Path) -> None:
    import onnx

    from edgekd.stages.export.onnx_writer import write_onnx

    state, context = begin(lively(RepVGG()), tmp_path, (6, 8, 8))
    after = rewritten(state, context, "merge-branches")
    write_onnx(after.torch.module, after.signature, tmp_path / "model.onnx")
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "model.onnx")).graph.node]
    assert kinds.count("Conv") == 2 and "Add" not in kinds and "BatchNormalization" not in kinds


class Unlike(nn.Module):
    """Sums whose branches must not be merged: other strides, centres, groups, inputs, or read elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.c, self.d = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=4)
        self.e, self.f = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, padding=0)
        self.head = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x) + self.b(x)
        x = self.c(x) + self.d(x)
        x = self.e(x) + self.f(x)[..., 1:-1, 1:-1]
        y = self.head(x)
        return (torch.add(y, self.head(x), alpha=2) + y).mean((2, 3))


def test_unlike_branches_stay(tmp_path: Path) -> None:
    state, context = begin(Unlike(), tmp_path, (4, 8, 8))
    assert mergeable(state.torch.module, state.signature) == []
    after = rewritten(state, context, "merge-branches")
    assert after.torch.edits == () and after.notes["rewrites"][0]["kept"] is False


class Sided(nn.Module):
    """A side path that was faded to nothing, a layer that does nothing, and a branch that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.side, self.other = (nn.Linear(6, 6) for _ in range(3))
        self.same, self.head, self.fade = nn.Linear(6, 6, bias=False), nn.Linear(6, 4), nn.Parameter(torch.zeros(()))
        nn.init.eye_(self.same.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.main(x) + self.fade * self.side(x) + self.other(x)
        return self.head(self.same(x))


def test_what_changes_nothing_is_taken_out_for_good(tmp_path: Path) -> None:
    state, context = begin(Sided(), tmp_path, (6,))
    after = rewritten(
        state,
        context,
        {"kind": "drop-branches", "modules": ["side"]},
        {"kind": "drop-branches", "modules": ["same"], "instead": "identity"},
    )
    assert not list(after.torch.module.get_submodule("side").parameters())
    assert torch.equal(outputs(after), outputs(state))
    assert torch.equal(outputs(stored(after, tmp_path / "kept")), outputs(after))


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"modules": ["other"]}, StageError, r"other taken out, 42 parameters\) changes the outputs by"),
        ({"modules": ["sides"]}, InputError, "drop-branches: modules: no module `sides`; nearest: side"),
        ({"modules": ["main.weight"]}, InputError, "no module `main.weight`"),
        ({"modules": ["same"]}, InputError, 'does not run with zero in place of same: .* instead = "identity"'),
    ],
)
def test_what_counts_and_what_is_not_there_is_refused(
    wanted: dict[str, object], error: type[Exception], words: str, tmp_path: Path
) -> None:
    state, context = begin(Sided(), tmp_path, (6,))
    with pytest.raises(error, match=words):
        rewritten(state, context, {"kind": "drop-branches", **wanted})


def test_one_module_is_a_list_of_one() -> None:
    assert RewriteSettings.model_validate({"rewrites": [{"kind": "drop-branches", "modules": "side"}]}).rewrites == (
        DropBranches(modules=("side",)),
    )
