import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.network import count_macs, count_parameters
from edgekd.models.networks import NETWORKS
from edgekd.stages.prune import STAGE as PRUNE
from edgekd.stages.prune import PruneSettings
from edgekd.stages.rewrite.kinds.kv_low_rank import key_value_pairs
from edgekd.stages.rewrite.kinds.low_rank import LowRank
from edgekd.stages.rewrite.spectra import Spectrum, greedy_ranks, input_moments, set_factors, spectrum_of

from .helpers import begin, outputs, rewritten, settings, stored


def test_the_factors_are_the_best_ones_of_their_rank() -> None:
    """Against the whitened SVD as it is usually written, with the square root of the covariance and its inverse."""
    torch.manual_seed(0)
    layer, x = nn.Linear(12, 8), torch.randn(500, 12) @ torch.randn(12, 12) + 1
    mean = x.double().mean(0)
    covariance = torch.cov(x.double().T, correction=0)
    spectrum = spectrum_of(layer.weight, (mean, covariance))
    down, up = nn.Linear(12, 3, bias=False), nn.Linear(3, 8)
    set_factors(down, [up], [layer], spectrum)
    values, vectors = torch.linalg.eigh(covariance)
    root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    left, energies, right = torch.linalg.svd(layer.weight.double() @ root)
    usual = (left[:, :3] * energies[:3]) @ right[:3] @ inverse
    with torch.no_grad():
        torch.testing.assert_close((up.weight @ down.weight).double(), usual, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(up(down(x)).mean(0), layer(x).mean(0), rtol=1e-4, atol=1e-4)
        error = ((up(down(x)) - layer(x)) ** 2).sum(1).mean()
    torch.testing.assert_close(float(error), float(spectrum.energies[3:].sum()), rtol=1e-3, atol=1e-5)


def test_greedy_ranks_take_what_holds_most_for_its_cost() -> None:
    steep = Spectrum(torch.tensor([8.0, 1.0, 1.0]), torch.eye(3), torch.zeros(3))
    flat = Spectrum(torch.tensor([300.0, 300.0, 300.0]), torch.eye(3), torch.zeros(3))
    assert greedy_ranks({"steep": steep, "flat": flat}, {"steep": 1, "flat": 1}, 4) == {"steep": 1, "flat": 3}
    assert greedy_ranks({"steep": steep, "flat": flat}, {"steep": 1, "flat": 5}, 9) == {"steep": 3, "flat": 1}
    assert steep.rank_for(0.85) == 2 and steep.rank_for(0.8) == 1 and flat.rank_for(0.999) == 3


class Net(nn.Module):
    """1x1 convolutions, one with a stride, and linear layers whose inputs lie in few directions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.narrow = nn.Conv2d(3, 4, 3, padding=1)
        self.wide, self.strided = nn.Conv2d(4, 32, 1), nn.Conv2d(32, 32, 1, stride=2, bias=False)
        self.grouped, self.spatial = nn.Conv2d(32, 32, 1, groups=4), nn.Conv2d(32, 32, 3, padding=1)
        self.hidden, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.strided(self.wide(self.narrow(x)))
        return self.head(self.hidden(self.spatial(self.grouped(x)).mean((2, 3))))


def test_layers_in_few_directions_are_factored_without_loss_and_saved(tmp_path: Path) -> None:
    """`strided` reads 4 values made wide, linearly: rank 4 is exact."""
    state, context = begin(Net(), tmp_path, (3, 8, 8))
    after = rewritten(state, context, {"kind": "low-rank", "layers": ["strided"], "energy": 0.999999})
    module: Any = after.torch.module
    assert [type(one) for one in module.strided] == [nn.Conv2d, nn.Conv2d]
    assert module.strided[0].weight.shape == (4, 32, 1, 1) and module.strided[0].stride == (2, 2)
    torch.testing.assert_close(outputs(after), outputs(state), rtol=1e-4, atol=1e-5)
    assert torch.equal(outputs(stored(after, tmp_path / "kept")), outputs(after))
    (note,) = after.notes["rewrites"]
    assert note["layers"]["strided"]["rank"] == 4 and note["validation"]["metric"] == "accuracy"


def test_a_budget_of_parameters_holds_and_only_layers_that_suit_are_touched(tmp_path: Path) -> None:
    state, context = begin(Net(), tmp_path, (3, 8, 8))
    after = rewritten(state, context, {"kind": "low-rank", "to_parameters": 0.5})
    changed = {name for name, layer in after.torch.module.named_children() if isinstance(layer, nn.Sequential)}
    assert changed and changed <= {"wide", "strided", "hidden", "head"}
    weights = ["wide", "strided", "hidden", "head"]
    before = sum(state.torch.module.get_submodule(name).weight.numel() for name in weights)  # type: ignore[union-attr, operator]
    left = sum(
        parameter.numel()
        for name in weights
        for parameter in after.torch.module.get_submodule(name).parameters()
        if parameter.ndim > 1
    )
    assert left <= 0.5 * before + 1e-9 or left < before  # layers that would not get smaller keep their own weights
    assert count_parameters(after.torch.module) < count_parameters(state.torch.module)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"layers": ["nothing"], "rank": 2}, "low-rank: layers: no module `nothing`"),
        ({"layers": ["hidden"], "rank": 16}, "rank = 16 is out of range for hidden: .* up to 15 make it smaller"),
        ({"layers": ["spatial"], "rank": 2}, "spatial is Conv2d; linear layers and 1x1 convolutions"),
    ],
)
def test_names_and_ranks_that_cannot_be_are_refused(wanted: dict[str, Any], words: str, tmp_path: Path) -> None:
    state, context = begin(Net(), tmp_path, (3, 8, 8))
    with pytest.raises(InputError, match=words):
        rewritten(state, context, {"kind": "low-rank", **wanted})


@pytest.mark.parametrize("wanted", [{}, {"rank": 2, "energy": 0.5}])
def test_one_measure_of_rank(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give one of energy, to_parameters, rank"):
        settings({"kind": "low-rank", **wanted})


def test_tied_weights_are_left_alone(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.second(self.first(x)))

    state, context = begin(Tied(), tmp_path, (16,))
    after = rewritten(state, context, LowRank(rank=2))
    assert set(after.notes["rewrites"][0]["layers"]) == {"head"}


def vit(tmp_path: Path) -> Any:
    torch.manual_seed(0)
    network = NETWORKS["vit"](image_size=16, patch_size=4, depth=2, dim=32, heads=4, mlp_dim=32, num_classes=4)
    return begin(network, tmp_path, (3, 16, 16))


def test_keys_and_values_share_their_narrow_layer(tmp_path: Path) -> None:
    state, context = vit(tmp_path)
    assert key_value_pairs(state.torch.module, state.signature) == [
        (f"blocks.{block}.attention.key", f"blocks.{block}.attention.value") for block in (0, 1)
    ]
    after = rewritten(state, context, {"kind": "kv-low-rank", "to_values": 0.3})
    module = after.torch.module
    key, value = (module.get_submodule(f"blocks.0.attention.{name}") for name in ("key", "value"))
    assert key[0] is value[0]  # type: ignore[index]
    ranks = [one["rank"] for one in after.notes["rewrites"][0]["layers"].values()]
    assert len(ranks) == 2 and sum(ranks) <= 0.3 * 2 * 64
    again = stored(after, tmp_path / "kept")
    assert torch.equal(outputs(again), outputs(after))
    shared = again.torch.module.get_submodule("blocks.0.attention.key.0")
    assert shared is again.torch.module.get_submodule("blocks.0.attention.value.0")


def test_all_values_of_the_inputs_rank_are_exact(tmp_path: Path) -> None:
    """Keys and values of inputs that lie in 5 directions are held by 5 values a token."""
    state, context = vit(tmp_path)
    attention: Any = state.torch.module.get_submodule("blocks.0.attention")
    torch.manual_seed(2)
    with torch.no_grad():
        low = torch.randn(5, 32)
        for name in ("key", "value"):
            getattr(attention, name).weight.copy_(torch.randn(32, 5) @ low / 10)
    pair = ("blocks.0.attention.key", "blocks.0.attention.value")
    after = rewritten(state, context, {"kind": "kv-low-rank", "layers": [pair], "energy": 0.9999999})
    assert after.notes["rewrites"][0]["layers"][", ".join(pair)]["rank"] == 5
    torch.testing.assert_close(outputs(after), outputs(state), rtol=1e-4, atol=1e-5)


def test_a_factored_transformer_is_pruned(tmp_path: Path) -> None:
    state, context = vit(tmp_path)
    after = rewritten(
        state, context, {"kind": "kv-low-rank", "to_values": 0.3}, {"kind": "low-rank", "to_parameters": 0.6}
    )
    before = count_macs(after.torch.module, after.signature)
    pruned = PRUNE.run(after, PruneSettings(to_macs=0.8, granularity=4), context)
    assert count_macs(pruned.torch.module, pruned.signature) <= 0.8 * before
    assert torch.equal(outputs(stored(pruned, tmp_path / "kept")), outputs(pruned))


def test_a_network_without_attention_says_so(tmp_path: Path) -> None:
    state, context = begin(Net(), tmp_path, (3, 8, 8))
    after = rewritten(state, context, {"kind": "kv-low-rank", "energy": 0.9})
    assert after.notes["rewrites"][0]["about"].startswith("no linear layers for keys and values lie side by side")
    with pytest.raises(InputError, match="wide and head are not two linear layers"):
        rewritten(state, context, {"kind": "kv-low-rank", "layers": [["wide", "head"]], "energy": 0.9})


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([["key", "query"]], None),
        ([["key", "project"]], "key and .*project do not read the same tensor"),
        ([["key", "key"]], "key is named twice"),
        ([["key", "value"], ["query", "value"]], "value is named twice"),
    ],
)
def test_a_pair_reads_one_tensor(pairs: list[list[str]], words: str | None, tmp_path: Path) -> None:
    state, context = vit(tmp_path)
    layers = [[f"blocks.0.attention.{name}" for name in pair] for pair in pairs]
    chosen = {"kind": "kv-low-rank", "layers": layers, "to_values": 0.3}
    if words is None:
        assert len(rewritten(state, context, chosen).torch.edits) == 1
        return
    with pytest.raises(InputError, match=words):
        rewritten(state, context, chosen)


@pytest.mark.parametrize("name", ["to_values", "energy"])
def test_too_large_a_share_names_one_that_works(name: str, tmp_path: Path) -> None:
    state, context = vit(tmp_path)
    after = rewritten(state, context, {"kind": "kv-low-rank", name: 0.99999})
    assert not after.torch.edits
    found = re.search(
        rf"no fewer weights than the two wide ones; {name} = (0\.\d+) makes", after.notes["rewrites"][0]["about"]
    )
    assert found
    after = rewritten(state, context, {"kind": "kv-low-rank", name: float(found[1])})
    assert count_parameters(after.torch.module) < count_parameters(state.torch.module)


def test_moments_are_those_of_the_inputs(tmp_path: Path) -> None:
    state, context = begin(Net(), tmp_path, (3, 8, 8))
    part = context.parts.calibration
    mean, covariance = input_moments(state.torch.module, ["hidden"], part)["hidden"]
    seen: list[Tensor] = []
    state.torch.module.get_submodule("hidden").register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        state.torch.module(torch.from_numpy(part.inputs()["x"]))
    torch.testing.assert_close(mean, seen[0].double().mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(covariance, torch.cov(seen[0].double().T, correction=0), rtol=1e-4, atol=1e-6)
