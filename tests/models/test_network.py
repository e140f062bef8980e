"""A network's outputs are learned by running it, whatever their names."""

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.network import learn_outputs
from edgekd.models.signature import Signature, TensorSpec

ROW = Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),))


class Named(nn.Module):
    """Gives its input under a name."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.name, self.dtype = name, dtype

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {self.name: x.to(self.dtype)}


@pytest.mark.parametrize("name", ["0", "p3.cls", "log-probs"])
def test_any_printable_name_will_do(name: str) -> None:
    assert learn_outputs(Named(name), ROW).outputs == (TensorSpec(name=name, shape=("batch", 4)),)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Named("y", torch.float64), "output 'y': dtype"),
        (Named("x"), "inputs and outputs have different names"),
        (Named("a\nb"), "printable"),
    ],
)
def test_outputs_that_cannot_be_are_refused(network: nn.Module, words: str) -> None:
    with pytest.raises(InputError, match=words):
        learn_outputs(network, ROW)


def test_a_fixed_batch_is_named_as_the_cause() -> None:
    network = Named("y")
    network.meta = {"static_batch": 1}  # type: ignore[assignment]
    network.register_forward_pre_hook(lambda _, inputs: inputs[0].view(1, 4))
    with pytest.raises(InputError, match="exported for a batch of 1 only"):
        learn_outputs(network, ROW)
