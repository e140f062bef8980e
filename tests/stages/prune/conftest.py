from pathlib import Path

import pytest

from edgekd.context import Context
from edgekd.request import Request, prepare
from edgekd.state import ModelState


@pytest.fixture
def context(example: Path) -> Context:
    return prepare(Request(example / "model.pt", ("generic-x86",), threads=1)).contexts[0]


@pytest.fixture
def state(example: Path) -> ModelState:
    return prepare(Request(example / "model.pt", ("generic-x86",), threads=1)).opened.state
