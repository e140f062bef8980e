"""A wide linear layer becomes two narrow ones."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.edits.factors import factor_edit
from edgekd.stages.rewrite.rewrite import Change, TorchRewrite, check_modules
from edgekd.stages.rewrite.spectra import Spectrum, greedy_ranks, input_moments, set_factors, spectrum_of
from edgekd.state import ModelState


class LowRank(TorchRewrite):
    """W x + b becomes B (A x) + b', with the rank by a share of the outputs' energy, by a budget, or given.

    Only layers for which two narrow ones are smaller are rewritten.
    """

    title: ClassVar[str] = "Low-rank factorisation"
    source: ClassVar[str] = "activation-whitened SVD; Wang et al., SVD-LLM, arXiv 2403.07378, has the same optimum"
    evidence: ClassVar[str] = "D"
    variant: ClassVar[str] = (
        "eigenvectors of the outputs' covariance, which are the whitened SVD without an inverse; the bias keeps the mean; ranks "
        "by marginal energy a parameter"
    )
    applies: ClassVar[str] = (
        "linear layers and 1x1 convolutions without groups; changes the function: distill afterwards"
    )
    exact: ClassVar[bool] = False

    kind: Literal["low-rank"] = "low-rank"
    layers: tuple[str, ...] = Field(default=(), description="modules; empty: all that get smaller")
    energy: float | None = Field(default=None, gt=0, lt=1, description="share of each layer's output energy that stays")
    to_parameters: float | None = Field(
        default=None, gt=0, lt=1, description="share of the layers' parameters that stays, in place of energy"
    )
    rank: int | None = Field(default=None, ge=1, description="of every layer, in place of energy")
    tolerance: float | None = Field(default=None, gt=0, description="largest difference of the outputs; not set: none")

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        given = [name for name in ("energy", "to_parameters", "rank") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"low-rank: give one of energy, to_parameters, rank (given: {', '.join(given) or 'none'})")
        return self

    def check(self, state: ModelState, context: Context) -> None:
        """Refuse names that are no linear layer, and ranks out of range."""
        module = state.torch.module
        check_modules("low-rank: layers", self.layers, module)
        for name in self.layers:
            layer = module.get_submodule(name)
            if not _suits(layer):
                raise InputError(
                    f"low-rank: {name} is {type(layer).__name__}; linear layers and 1x1 convolutions without groups or padding "
                    "have a rank"
                )
            if self.rank is not None and not _pays(layer, self.rank):
                sizes = _sizes(layer)
                most = (sizes[0] * sizes[1] - 1) // sum(sizes)
                raise InputError(
                    f"low-rank: rank = {self.rank} is out of range for {name}: with {sizes[1]} inputs and {sizes[0]} outputs up to "
                    f"{most} make it smaller"
                )

    def rewrite(self, state: ModelState, context: Context) -> Change:
        """Factor the layers with the covariance of their inputs on the calibration part."""
        module = state.torch.module
        shared = _shared(module)
        named = {
            name: layer for name, layer in module.named_modules() if name and _suits(layer) and layer not in shared
        }
        layers: dict[str, Any] = {name: named[name] for name in self.layers or named if name in named}
        moments = input_moments(module, list(layers), context.parts.calibration)
        spectra = {
            name: spectrum_of(layers[name].weight.flatten(1), moments[name]) for name in layers if name in moments
        }
        ranks = {name: rank for name, rank in self._ranks(spectra, layers).items() if _pays(layers[name], rank)}
        if not ranks:
            return Change("no linear layer or 1x1 convolution gets smaller")
        form = self.edited(state.torch, factor_edit(ranks), state.signature)
        for name in ranks:
            made: Any = form.module.get_submodule(name)
            set_factors(made[0], [made[1]], [layers[name]], spectra[name])
        before = sum(layers[name].weight.numel() for name in ranks)
        after = sum(rank * sum(_sizes(layers[name])) for name, rank in ranks.items())
        notes = {
            "layers": {
                name: {"rank": rank, "energy": round(spectra[name].share(rank), 6)} for name, rank in ranks.items()
            }
        }
        return Change(f"{len(ranks)} layers to {after / before:.0%} of their weights; distill to recover", form, notes)

    def _ranks(self, spectra: dict[str, Spectrum], layers: dict[str, Any]) -> dict[str, int]:
        if self.rank is not None:
            return dict.fromkeys(spectra, self.rank)
        if self.energy is not None:
            return {name: one.rank_for(self.energy) for name, one in spectra.items()}
        assert self.to_parameters is not None
        costs = {name: sum(_sizes(layers[name])) for name in spectra}
        return greedy_ranks(spectra, costs, self.to_parameters * sum(layers[name].weight.numel() for name in spectra))


def _suits(layer: nn.Module) -> bool:
    if isinstance(layer, nn.modules.conv._ConvNd):
        pointwise = set(layer.kernel_size) == {1} and not isinstance(layer, nn.modules.conv._ConvTransposeNd)
        return pointwise and layer.groups == 1 and set(layer.padding) == {0}
    return isinstance(layer, nn.Linear)


def _shared(module: nn.Module) -> set[nn.Module]:
    """Return the layers that have two paths or share a weight: what is made of one would not be made of the other."""
    weights: dict[int, list[nn.Module]] = {}
    for _, layer in module.named_modules(remove_duplicate=False):
        weight = getattr(layer, "weight", None)
        if isinstance(weight, nn.Parameter):
            weights.setdefault(id(weight), []).append(layer)
    return {layer for layers in weights.values() if len(layers) > 1 for layer in layers}


def _sizes(layer: Any) -> tuple[int, int]:
    outputs, inputs = layer.weight.shape[:2]
    return outputs, inputs


def _pays(layer: Any, rank: int) -> bool:
    return rank * sum(_sizes(layer)) < layer.weight.numel()
