"""The telemetry that libraries switch on by default, switched off for this process and those it starts; their chatter too."""

import os

VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime; read when it is imported
    "NNCF_CI": "1",  # NNCF
}
QUIET = {
    "TORCHAO_FORCE_SKIP_LOADING_SO_FILES": "1",  # compiled kernels that we do not use, and the warnings about them
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # a reducer's warning about a flag that we set on purpose
}


def switch_off() -> None:
    """Set the variables; called before anything else of edgekd is imported."""
    os.environ.update(VARIABLES)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
