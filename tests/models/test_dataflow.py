import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.dataflow import trace_dataflow
from edgekd.models.signature import Signature, TensorSpec

SIGNATURE = Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.twice = (nn.Linear(4, 4) for _ in range(4))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z = self.act(self.b(y))
        z += self.c(x)
        z = torch.add(z, y, alpha=2)
        return self.twice(self.twice(sum([z, x])))  # type: ignore[arg-type]


def test_who_reads_what_and_what_is_added_up() -> None:
    flow = trace_dataflow(Net(), SIGNATURE)
    calls = flow.single_calls()
    assert set(calls) == {"a", "b", "c", "act"}
    assert calls["a"].reads == calls["c"].reads and calls["b"].reads == calls["a"].makes
    assert calls["act"].makes != calls["act"].reads  # the same tensor, with another value
    assert flow.readers[calls["a"].makes] == 2 and flow.readers[calls["b"].makes] == 1
    terms = list(flow.sums.values())
    assert (calls["act"].makes, calls["c"].makes) in terms  # in place
    assert not any(calls["a"].makes in one for one in terms)  # twice of it is added
    assert any(calls["a"].reads in one for one in terms)  # by Python's sum
    assert flow.makers()[calls["c"].makes].shape == (2, 4)


def test_outputs_are_read() -> None:
    flow = trace_dataflow(nn.Sequential(nn.Linear(4, 2)), SIGNATURE)
    assert flow.readers[flow.calls[0].makes] == 1


def test_no_hook_stays_and_a_network_that_does_not_run_says_so() -> None:
    network = Net()
    trace_dataflow(network, SIGNATURE)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())
    with pytest.raises(InputError, match="the network does not run on random inputs"):
        trace_dataflow(nn.Sequential(nn.Linear(3, 2)), SIGNATURE)
