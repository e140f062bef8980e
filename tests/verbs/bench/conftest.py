"""A perceptron that has learned digits, and stages that work on it quickly."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from edgekd import host
from edgekd.data.calibration_sets import load_calibration_set, set_signature

DATA = "[data]\ncalibration = 64\nvalidation = 0.1\n"
PRUNE = '[[stage]]\nkind = "prune"\nto_parameters = 0.6\ngranularity = 4\n'
DISTILL = '[[stage]]\nkind = "distill"\nlearning_rate = 0.02\nprecision = "float32"\n'
QUANTIZE = """\
[[stage]]
kind = "quantize"
calibrators = ["min-max"]
rounding = ["nearest"]
float_noise = 1
"""


@pytest.fixture(scope="session", autouse=True)
def _short_measurements() -> Iterator[None]:
    """Time little: how precise latency is, is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        short = partial(host.interleave, warmup_s=0.02)
        patch.setattr(host, "interleave", lambda runs, **_: short(runs, blocks=6, block_ms=1.0))
        yield


@pytest.fixture(scope="session")
def perceptron() -> nn.Module:
    digits = load_calibration_set("digits", set_signature("digits"))
    assert digits.held_out is not None and digits.targets is not None
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    part = np.flatnonzero(~digits.held_out)
    images = (torch.from_numpy(digits.inputs["image"][part]).float() / 16 - 0.3059) / 0.3755
    labels = torch.from_numpy(digits.targets[part])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval()
