"""Batch norms become part of the layers before them."""

from typing import ClassVar, Literal

from torch import nn

from edgekd.context import Context
from edgekd.models.dataflow import trace_dataflow
from edgekd.models.edits.batch_norms import fold_edit
from edgekd.models.signature import Signature
from edgekd.stages.rewrite.rewrite import Change, TorchRewrite
from edgekd.state import ModelState


def foldable(module: nn.Module, signature: Signature) -> list[tuple[str, str]]:
    """Return the pairs of a layer and a batch norm that alone reads what the layer makes, both run once, by path.

    Raises:
        InputError: the network does not run.
    """
    flow = trace_dataflow(module, signature)
    makers = flow.makers()
    pairs = []
    for name, call in flow.single_calls().items():
        norm, made = module.get_submodule(name), makers.get(call.reads)
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None or made is None:
            continue
        if flow.readers[call.reads] == 1 and _fits(module.get_submodule(made.layer), made.shape):
            pairs.append((made.layer, name))
    return pairs


def _fits(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Return whether a layer's outputs, of this shape, lie on the second axis, that of a batch norm's channels."""
    if isinstance(layer, nn.Linear):  # those of tokens (N, L, C) lie on the last one
        return len(shape) == 2
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    return isinstance(layer, nn.modules.conv._ConvNd) and not (transposed and layer.groups > 1)


class FoldBatchNorm(TorchRewrite):
    """A convolution or linear layer and the batch norm behind it become one layer: W' = s W, s = gamma / sqrt(var + eps)."""

    title: ClassVar[str] = "Batch-norm folding"
    source: ClassVar[str] = "Jacob et al., arXiv 1712.05877, section 3.2"
    evidence: ClassVar[str] = "D"
    applies: ClassVar[str] = "convolutions and linear layers whose output only a batch norm reads; exact in eval mode"

    kind: Literal["fold-batch-norm"] = "fold-batch-norm"

    def rewrite(self, state: ModelState, context: Context) -> Change:
        """Fold all that can be; what is trained afterwards has no batch norms there."""
        pairs = foldable(state.torch.module, state.signature)
        if not pairs:
            return Change("no batch norm stands right behind a convolution or linear layer")
        form = self.edited(state.torch, fold_edit(pairs), state.signature)
        return Change(f"{len(pairs)} batch norms folded; training that follows has none there", form)
