"""edgekd: a trained PyTorch model becomes an artifact for a small device, with measured evidence that it is good."""

from typing import TYPE_CHECKING, Any

from edgekd import telemetry

telemetry.switch_off()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgekd.errors import EdgekdError
    from edgekd.verbs.compress import compress
    from edgekd.verbs.distill import distill

__all__ = ["EdgekdError", "__version__", "compress", "distill"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `edgekd --help` does not wait for torch."""
    import importlib

    modules = {"compress": "edgekd.verbs.compress", "distill": "edgekd.verbs.distill", "EdgekdError": "edgekd.errors"}
    if name not in modules:
        raise AttributeError(f"module 'edgekd' has no attribute {name!r}")
    return getattr(importlib.import_module(modules[name]), name)
