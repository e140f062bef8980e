"""edgekd: a trained PyTorch model becomes an artifact for a small device, with measured evidence that it is good."""

from typing import TYPE_CHECKING, Any

from edgekd import telemetry

telemetry.switch_off()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgekd.data import Dataset
    from edgekd.errors import EdgekdError
    from edgekd.models.signature import Signature, TensorSpec
    from edgekd.verbs.compress import compress
    from edgekd.verbs.distill import distill

__all__ = ["Dataset", "EdgekdError", "Signature", "TensorSpec", "__version__", "compress", "distill"]

_HOMES = {
    "compress": "edgekd.verbs.compress",
    "distill": "edgekd.verbs.distill",
    "Dataset": "edgekd.data",
    "EdgekdError": "edgekd.errors",
    "Signature": "edgekd.models.signature",
    "TensorSpec": "edgekd.models.signature",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `edgekd --help` does not wait for torch."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'edgekd' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
