"""Keys and values of an attention come from one narrow vector a token."""

import itertools
import math
from collections import Counter
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.dataflow import trace_dataflow
from edgekd.models.edits.factors import joint_edit
from edgekd.models.signature import Signature
from edgekd.stages.rewrite.rewrite import Change, TorchRewrite, check_modules
from edgekd.stages.rewrite.spectra import Spectrum, greedy_ranks, input_moments, set_factors, spectrum_of
from edgekd.state import ModelState

NAMES = (("key", "value"), ("k", "v"), ("k_proj", "v_proj"), ("to_k", "to_v"), ("key_proj", "value_proj"), ("wk", "wv"))
Pair = tuple[str, str]


def key_value_pairs(module: nn.Module, signature: Signature) -> list[Pair]:
    """Return the key and value projections that lie side by side under a usual name and read the same, once, by path.

    Raises:
        InputError: the network does not run.
    """
    calls = trace_dataflow(module, signature).single_calls()
    found = []
    for parent, _ in module.named_modules():
        for key, value in NAMES:
            pair = tuple(f"{parent}.{name}" if parent else name for name in (key, value))
            if all(name in calls and isinstance(module.get_submodule(name), nn.Linear) for name in pair):
                if calls[pair[0]].reads == calls[pair[1]].reads:
                    found.append((pair[0], pair[1]))
    return found


class KvLowRank(TorchRewrite):
    """[W_K; W_V] x becomes [B_K; B_V] (A x): one c = A x of few values a token, shared by keys and values.

    A cache of keys and values would keep c alone. Rotary positions lie between W_K and the attention, so they stay exact.
    """

    title: ClassVar[str] = "Joint low rank of keys and values"
    source: ClassVar[str] = "after YouZhi-LLM, arXiv 2606.05868, card M40; its FreqFold is another construction"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = (
        "eigenvectors of the covariance of keys and values together, ranks by marginal energy over all layers, no sub-head for "
        "rotary positions"
    )
    applies: ClassVar[str] = (
        "attention with a linear layer each for keys and values; changes the function: distill afterwards"
    )
    exact: ClassVar[bool] = False
    saves: ClassVar[str | None] = "values a token in a cache of keys and values"

    kind: Literal["kv-low-rank"] = "kv-low-rank"
    layers: tuple[Pair, ...] = Field(
        default=(), description="pairs of modules, key and value; empty: those that lie side by side under a usual name"
    )
    energy: float | None = Field(
        default=None, gt=0, lt=1, description="share of the energy of keys and values that stays"
    )
    to_values: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of the values a token that stays, over all layers, in place of energy",
    )
    tolerance: float | None = Field(default=None, gt=0, description="largest difference of the outputs; not set: none")

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.energy is None) == (self.to_values is None):
            raise ValueError("kv-low-rank: give one of energy, to_values")
        return self

    def check(self, state: ModelState, context: Context) -> None:
        """Refuse names that are no linear layers, or do not read the same."""
        if not self.layers:
            return
        module, names = state.torch.module, tuple(itertools.chain(*self.layers))
        check_modules("kv-low-rank: layers", names, module)
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise InputError(f"kv-low-rank: layers: {', '.join(twice)} is named twice; a layer belongs to one pair")
        for key, value in self.layers:
            pair: list[Any] = [module.get_submodule(name) for name in (key, value)]
            if not all(isinstance(one, nn.Linear) for one in pair) or pair[0].in_features != pair[1].in_features:
                raise InputError(f"kv-low-rank: {key} and {value} are not two linear layers of as many inputs")
        flow = trace_dataflow(module, state.signature)
        for key, value in self.layers:
            if flow.reads(key) != flow.reads(value):
                raise InputError(
                    f"kv-low-rank: {key} and {value} do not read the same tensor, so they cannot share a narrow layer; name "
                    "keys and values of one attention"
                )

    def rewrite(self, state: ModelState, context: Context) -> Change:
        """Factor the pairs with the covariance of their inputs on the calibration part."""
        module = state.torch.module
        pairs = self.layers or tuple(key_value_pairs(module, state.signature))
        if not pairs:
            return Change("no linear layers for keys and values lie side by side; name them in layers")
        layers: dict[Pair, list[Any]] = {pair: [module.get_submodule(name) for name in pair] for pair in pairs}
        moments = input_moments(module, [key for key, _ in pairs], context.parts.calibration)
        spectra = {
            pair: spectrum_of(torch.cat([one.weight for one in layers[pair]]), moments[pair[0]]) for pair in pairs
        }
        ranks = {pair: rank for pair, rank in self._ranks(spectra).items() if rank <= _most(layers[pair])}
        if not ranks:
            return Change(f"no pair of keys and values gets smaller: {self._why_not(layers, spectra)}")
        edit = joint_edit([(*pair, rank) for pair, rank in ranks.items()])
        form = self.edited(state.torch, edit, state.signature)
        for pair in ranks:
            made: list[Any] = [form.module.get_submodule(name) for name in pair]
            set_factors(made[0][0], [one[1] for one in made], layers[pair], spectra[pair])
        before = sum(len(spectra[pair].energies) for pair in ranks)
        notes = {
            "layers": {
                ", ".join(pair): {"rank": rank, "energy": round(spectra[pair].share(rank), 6)}
                for pair, rank in ranks.items()
            }
        }
        about = f"{len(ranks)} pairs to {sum(ranks.values())} of {before} values a token; distill to recover"
        return Change(about, form, notes)

    def _why_not(self, layers: dict[Pair, list[Any]], spectra: dict[Pair, Spectrum]) -> str:
        """Return why every pair would grow, and with which setting one does not."""
        most = {pair: _most(layers[pair]) for pair in layers}
        if self.energy is not None:
            name, limit = "energy", max(spectra[pair].share(most[pair]) for pair in layers)
        else:
            name, limit = "to_values", sum(most.values()) / sum(len(one.energies) for one in spectra.values())
        limit = math.floor(limit * 1000) / 1000
        grow = "with that many values a token the three narrow layers have no fewer weights than the two wide ones"
        return f"{grow}; {name} = {limit:g} makes them smaller" if limit else f"{grow}, and with one value too"

    def _ranks(self, spectra: dict[Pair, Spectrum]) -> dict[Pair, int]:
        if self.energy is not None:
            return {pair: one.rank_for(self.energy) for pair, one in spectra.items()}
        assert self.to_values is not None
        named = {", ".join(pair): one for pair, one in spectra.items()}
        budget = self.to_values * sum(len(one.energies) for one in spectra.values())
        found = greedy_ranks(named, dict.fromkeys(named, 1), budget)
        return {pair: found[", ".join(pair)] for pair in spectra}


def _most(layers: list[Any]) -> int:
    """Return the most values with which the three narrow layers are smaller than the two wide ones."""
    outputs, inputs = sum(layer.out_features for layer in layers), int(layers[0].in_features)
    return (inputs * outputs - 1) // (inputs + outputs)
