from pathlib import Path

import pytest
import torch

from edgekd.errors import InputError
from edgekd.metrics import choose_metric
from edgekd.models.network import count_macs
from edgekd.models.source import Opening
from edgekd.request import silent
from edgekd.stages.prune import PruneSettings
from edgekd.stages.prune.groups import prunable_groups
from edgekd.stages.prune.one_group import cut_alone
from edgekd.stages.prune.sensitivity import sensitivity
from edgekd.target import load_target
from edgekd.verbs.sensitivity import sensitivity_of

from .networks import convolutions, part, signed
from .test_groups import transformer


@pytest.mark.parametrize(("granularity", "cut"), [(1, 16), (8, 16), (12, 8), (24, 8), (32, 0)])
def test_half_of_a_group_goes_in_multiples_and_nothing_else(granularity: int, cut: int) -> None:
    network = convolutions()
    signature = signed(network, 1, 6, 6)
    groups = prunable_groups(network, signature)
    (last,) = (group for group in groups if group.root == "3")
    alone = cut_alone(network, signature, PruneSettings(to_macs=0.5), granularity, last, groups)
    assert network[3].out_channels == 32
    if cut:
        assert alone is not None and alone.channels == cut
        assert (alone.network[0].out_channels, alone.network[3].out_channels) == (16, 32 - cut)  # type: ignore[index]
    else:
        assert alone is None


def test_heads_lose_half_of_their_features() -> None:
    network = transformer()
    signature = signed(network, 3, 8, 8)
    groups = prunable_groups(network, signature)
    heads = next(group for group in groups if group.axis == "heads")
    alone = cut_alone(network, signature, PruneSettings(to_macs=0.5), 8, heads, groups)
    assert alone is not None and alone.channels == 16


def test_the_group_that_decides_comes_first() -> None:
    network = convolutions()
    signature = signed(network, 1, 6, 6)
    with torch.no_grad():
        network[8].weight[:, ::2] = 0  # the head reads every other channel: half of the last group is worth nothing
        network[8].weight *= 20
        network[3].weight[::2] *= 1e-3
    images = torch.randn(60, 1, 6, 6)
    with torch.no_grad():
        samples = part(signature, images, network(images).argmax(1))
    metric = choose_metric(None, "classification", labelled=True)
    settings = PruneSettings(to_macs=0.5)
    groups = prunable_groups(network, signature)
    found = sensitivity(network, signature, settings, 8, groups, samples, metric, None, silent)
    assert found.score == 100.0 and found.samples == 60
    assert [one.group.root for one in found.groups] == ["0", "3"]
    first, last = found.groups
    assert first.drop is not None and first.drop > 0 and first.score == 100.0 - first.drop
    assert last.drop == 0.0 and last.cut == 16
    alone = cut_alone(network, signature, settings, 8, last.group, groups)
    assert alone is not None
    assert last.macs == 1 - count_macs(alone.network, signature) / count_macs(network, signature)


def test_groups_left_uncut_come_last_and_have_no_figures() -> None:
    network = convolutions()
    signature = signed(network, 1, 6, 6)
    samples = part(signature, torch.randn(20, 1, 6, 6), torch.arange(20) % 4)
    metric = choose_metric(None, "classification", labelled=True)
    groups = prunable_groups(network, signature)
    found = sensitivity(network, signature, PruneSettings(to_macs=0.5), 16, groups, samples, metric, None, silent)
    assert [(one.group.root, one.cut, one.score is None) for one in found.groups] == [("3", 16, False), ("0", 0, True)]


def test_blocks_that_may_be_left_out_have_their_influence() -> None:
    network = transformer(depth=4)
    signature = signed(network, 3, 8, 8)
    samples = part(signature, torch.randn(30, 3, 8, 8), torch.arange(30) % 10)
    metric = choose_metric(None, "classification", labelled=True)
    found = sensitivity(network, signature, PruneSettings(to_macs=0.5), 8, [], samples, metric, None, silent)
    assert {one.block for one in found.blocks} == {"blocks.1", "blocks.2"}
    assert found.blocks[0].influence <= found.blocks[1].influence
    assert all(0.2 < one.macs < 0.3 and one.drop == found.score - one.score for one in found.blocks)


def test_of_a_file_the_target_gives_the_multiple_and_the_sidecar_the_data(example: Path, tmp_path: Path) -> None:
    target, _ = load_target("raspberry-pi-5")
    found = sensitivity_of(example / "model.pt", Opening(), [target], None, None, 20, silent)
    assert found.granularity == target.channels.granularity and found.samples == 20 and found.metric == "accuracy"
    assert {one.group.root for one in found.groups} >= {"blocks.2.conv1"}
    (tmp_path / "alone.pt").write_bytes((example / "model.pt").read_bytes())
    with pytest.raises(InputError, match="--sensitivity needs data: give --data"):
        sensitivity_of(tmp_path / "alone.pt", Opening(), [target], None, None, 50, silent)
