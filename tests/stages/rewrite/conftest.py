import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    """Tiny networks are faster without a second thread."""
    torch.set_num_threads(1)
