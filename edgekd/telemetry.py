"""The telemetry that libraries switch on by default, switched off for this process and those it starts."""

import os

VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime; read when it is imported
    "NNCF_CI": "1",  # NNCF
    "TORCHAO_FORCE_SKIP_LOADING_SO_FILES": "1",  # no telemetry: compiled kernels that we do not use, and their warnings
}


def switch_off() -> None:
    """Set the variables; called before anything else of edgekd is imported."""
    os.environ.update(VARIABLES)
