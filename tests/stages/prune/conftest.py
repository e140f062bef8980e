from pathlib import Path

import pytest
import torch

from edgekd.context import Context
from edgekd.request import Request, prepare
from edgekd.state import ModelState


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    """Tiny networks are faster without a second thread."""
    torch.set_num_threads(1)


@pytest.fixture
def context(example: Path) -> Context:
    return prepare(Request(example / "model.pt", ("generic-x86",), threads=1)).contexts[0]


@pytest.fixture
def state(example: Path) -> ModelState:
    return prepare(Request(example / "model.pt", ("generic-x86",), threads=1)).opened.state
