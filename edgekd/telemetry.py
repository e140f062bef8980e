"""The telemetry that libraries switch on by default, switched off for this process and those it starts."""

import os

VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime; read when it is imported
    "NNCF_CI": "1",  # NNCF
}


def switch_off() -> None:
    """Set the variables; called before anything else of edgekd is imported."""
    os.environ.update(VARIABLES)
