import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import StageError
from edgekd.models.edits import apply_edits
from edgekd.models.edits.batch_norms import fold_edit
from edgekd.models.networks import NETWORKS
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.prune import STAGE as PRUNE
from edgekd.stages.prune import PruneSettings
from edgekd.stages.rewrite.kinds.fold_batch_norm import foldable

from .helpers import begin, lively, outputs, rewritten, stored

NORMS = nn.modules.batchnorm._BatchNorm


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("resnet8", (3, 16, 16), {}),
        ("mobilenet-v1", (3, 32, 32), {"width": 0.25, "num_classes": 4}),
        ("mobilenet-v2", (3, 32, 32), {"width": 0.25, "num_classes": 4}),
        ("unet", (3, 16, 16), {}),
        ("autoencoder", (640,), {}),
        ("ds-cnn", (1, 49, 10), {}),
    ],
)
def test_bundled_networks_do_the_same_without_batch_norms(
    name: str, shape: tuple[int, ...], options: dict[str, object]
) -> None:
    network = lively(NETWORKS[name](**options)).eval()
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", *shape)),))
    pairs = foldable(network, signature)
    norms = [path for path, layer in network.named_modules() if isinstance(layer, NORMS)]
    assert sorted(norm for _, norm in pairs) == sorted(norms)
    folded = apply_edits(copy.deepcopy(network), [fold_edit(pairs)], signature).eval()
    assert not any(isinstance(layer, NORMS) for layer in folded.modules())
    inputs = torch.from_numpy(signature.random_inputs(5)["x"])
    with torch.no_grad():
        before, after = network(inputs), folded(inputs)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * float(before.abs().max()))


class Mixed(nn.Module):
    """Batch norms that can be folded, and others that must not be."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.up_norm = nn.ConvTranspose2d(3, 8, 2, 2), nn.BatchNorm2d(8)
        self.grouped_up, self.grouped_norm = nn.ConvTranspose2d(8, 8, 2, 2, groups=2), nn.BatchNorm2d(8)
        self.read_twice, self.twice_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.runs_twice, self.first_norm, self.second_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.activated, self.activation, self.late_norm = nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(8)
        self.batch_norm = nn.BatchNorm2d(8, track_running_stats=False)
        self.plain = nn.Conv2d(8, 8, 1)
        self.tokens, self.token_norm = nn.Linear(8, 4), nn.BatchNorm1d(4)
        self.head, self.head_norm = nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up_norm(self.up(x))
        x = self.grouped_norm(self.grouped_up(x))[..., ::4, ::4]
        y = self.read_twice(x)
        x = self.twice_norm(y) + y
        x = self.second_norm(self.runs_twice(self.first_norm(self.runs_twice(x))))
        x = self.late_norm(self.activation(self.activated(x)))
        x = self.batch_norm(self.plain(x))
        x = self.token_norm(self.tokens(x[..., ::4, ::4].flatten(2).transpose(1, 2)))
        return self.head_norm(self.head(x.mean(1)))


def test_only_what_may_be_folded_is_folded(tmp_path: Path) -> None:
    state, context = begin(lively(Mixed()), tmp_path, (3, 8, 8))
    pairs = foldable(state.torch.module, state.signature)
    assert pairs == [("up", "up_norm"), ("head", "head_norm")]
    after = rewritten(state, context, "fold-batch-norm")
    torch.testing.assert_close(outputs(after), outputs(state), rtol=0, atol=1e-5)
    (note,) = after.notes["rewrites"]
    assert note["kept"] and note["relative_difference"] <= 1e-5
    assert note["latency"] == "not measured: this machine is no Raspberry Pi 5"


def test_pruned_folded_and_pruned_again_survives_saving(tmp_path: Path) -> None:
    network = lively(NETWORKS["resnet8"](num_classes=4))
    state, context = begin(network, tmp_path / "work", (3, 16, 16))
    context.workdir.mkdir()
    pruning = PruneSettings(to_macs=0.7, granularity=8)
    pruned = PRUNE.run(state, pruning, context)
    folded = rewritten(pruned, context, "fold-batch-norm")
    torch.testing.assert_close(outputs(folded), outputs(pruned), rtol=0, atol=1e-5 * float(outputs(pruned).abs().max()))
    again = PRUNE.run(folded, pruning, context)
    assert [edit["kind"] for edit in again.torch.edits] == ["prune", "fold-batch-norm", "prune"]
    for number, one in enumerate((folded, again)):
        assert torch.equal(outputs(stored(one, tmp_path / str(number))), outputs(one))


def test_a_network_without_batch_norms_is_left_alone_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    state, context = begin(
        NETWORKS["vit"](depth=1, dim=16, mlp_dim=16, num_classes=4), tmp_path, (3, 32, 32), log=said.append
    )
    after = rewritten(state, context, "fold-batch-norm")
    assert after.torch.edits == () and after.notes["rewrites"][0]["kept"] is False
    assert said == [
        "rewrite: fold-batch-norm: nothing to do: no batch norm stands right behind a convolution or linear layer"
    ]


class Branching(nn.Module):
    """Code that takes another way where the data say so: random inputs show one way only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.head = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.head(self.norm(y) if len(x) < 6 else y)


def test_dynamic_control_flow_is_caught_by_the_outputs(tmp_path: Path) -> None:
    state, context = begin(lively(Branching()), tmp_path, (4,))
    with pytest.raises(StageError, match=r"fold-batch-norm .* changes the outputs by .* more than tolerance = 1e-05"):
        rewritten(state, context, "fold-batch-norm")
