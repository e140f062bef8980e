"""How few directions hold what linear layers put out, and layers made of these directions alone.

With inputs x of mean m and covariance S, the best W' of rank r for E||(W - W')(x - m)||^2 is U U^T W, where U holds the r
first eigenvectors of W S W^T: the whitened SVD, without the inverse of S^(1/2). W m is kept by the bias.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.data import Part
from edgekd.models.network import run_network

_BATCH = 64


@dataclass(frozen=True)
class Spectrum:
    """Of what a layer, or a stack of layers, puts out: energies (O,) falling, their directions (O, O), and W m (O,)."""

    energies: Tensor
    directions: Tensor
    mean: Tensor

    def share(self, rank: int) -> float:
        """Return the share of the energy in the first directions; 1 where there is none at all."""
        whole = float(self.energies.sum())
        return float(self.energies[:rank].sum()) / whole if whole > 0 else 1.0

    def rank_for(self, energy: float) -> int:
        """Return the fewest directions that hold this share of the energy."""
        shares = torch.cumsum(self.energies, 0)
        return min(int((shares < energy * shares[-1]).sum()) + 1, len(shares))


@torch.no_grad()
def input_moments(module: nn.Module, names: Sequence[str], part: Part) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean (I,) and covariance (I, I) of the inputs of layers over a part of the data, in float64."""
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def note(name: str, layer: Any, x: Tensor) -> None:
        if not isinstance(layer, nn.Linear):
            steps: Any = (..., *(slice(None, None, step) for step in layer.stride))
            x = x[steps].movedim(1, -1)
        x = x.reshape(-1, x.shape[-1]).double()
        first, second, count = sums.get(name, (torch.zeros(()), torch.zeros(()), 0))
        sums[name] = (first + x.sum(0), second + x.T @ x, count + len(x))

    handles = [
        module.get_submodule(name).register_forward_pre_hook(
            lambda layer, given, name=name: note(name, layer, given[0])
        )
        for name in names
    ]
    try:
        for feeds in part.batches(_BATCH):
            run_network(module.eval(), {name: torch.from_numpy(array) for name, array in feeds.items()})
    finally:
        for handle in handles:
            handle.remove()
    means = {name: first / count for name, (first, _, count) in sums.items()}
    return {
        name: (means[name], second / count - torch.outer(means[name], means[name]))
        for name, (_, second, count) in sums.items()
    }


@torch.no_grad()
def spectrum_of(weight: Tensor, moments: tuple[Tensor, Tensor]) -> Spectrum:
    """Return the spectrum of W x for a weight (O, I) and the moments of x."""
    mean, covariance = moments
    weight = weight.double()
    energies, directions = torch.linalg.eigh(weight @ covariance @ weight.T)
    return Spectrum(energies.flip(0).clamp_min(0), directions.flip(1), weight @ mean)


@torch.no_grad()
def set_factors(down: Any, ups: Sequence[Any], layers: Sequence[Any], spectrum: Spectrum) -> None:
    """Set the weights of a narrow layer and of those behind it, so that they stand for these layers, stacked."""
    rank = down.weight.shape[0]
    weight = torch.cat([layer.weight.flatten(1) for layer in layers]).double()
    kept = spectrum.directions[:, :rank]
    down.weight.copy_((kept.T @ weight).reshape(down.weight.shape))
    left_out = spectrum.mean - kept @ (kept.T @ spectrum.mean)
    start = 0
    for up, layer in zip(ups, layers, strict=True):
        rows = slice(start, start := start + layer.weight.shape[0])
        up.weight.copy_(kept[rows].reshape(up.weight.shape))
        up.bias.copy_(left_out[rows] + (0 if layer.bias is None else layer.bias))


def greedy_ranks(spectra: Mapping[str, Spectrum], costs: Mapping[str, int], budget: float) -> dict[str, int]:
    """Return ranks whose costs sum up to at most the budget, one direction after the other where it holds the most a cost.

    Every layer has at least one. Energies are shares of a layer's own, so that no scale counts.
    """
    ranks = dict.fromkeys(spectra, 1)
    spent = sum(costs.values())

    def gain(name: str) -> float:
        one = spectra[name]
        return float(one.energies[ranks[name]] / one.energies.sum().clamp_min(1e-300)) / costs[name]

    heap = [(-gain(name), name) for name, one in spectra.items() if len(one.energies) > 1]
    heapq.heapify(heap)
    while heap:
        _, name = heapq.heappop(heap)
        if spent + costs[name] > budget:
            continue
        spent += costs[name]
        ranks[name] += 1
        if ranks[name] < len(spectra[name].energies):
            heapq.heappush(heap, (-gain(name), name))
    return ranks
