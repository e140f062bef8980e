import errno
import os

import pytest

from edgekd.cli.failure import explain_failure, install_line
from edgekd.device.errors import CheckFailed, DeviceError, RuntimeMissing
from edgekd.errors import BudgetMissed, InputError, StageError, ToolMissing


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("wrong"), 2, "wrong"),
        (BudgetMissed("far"), 1, "far"),
        (StageError("broken"), 3, "broken"),
        (ToolMissing("no java"), 4, "no java"),
        (DeviceError("bad"), 2, "bad"),
        (CheckFailed("differs"), 3, "differs"),
        (RuntimeMissing("no runtime"), 4, "no runtime"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "here"), 3, "here: the disk is full"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "here"), 2, "-o"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "here"), 2, "here: No such file"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), 3, "Input/output error"),
        (MemoryError(), 3, "out of memory; lower --batch, or batch_size"),
        (RuntimeError("CUDA out of memory. Tried to"), 3, "out of memory; lower --batch, or batch_size"),
        (ModuleNotFoundError("No module named 'openvino'", name="openvino.runtime"), 4, '"edgekd[openvino]"'),
        (ModuleNotFoundError("No module named 'strange'", name="strange"), 3, "internal error"),
        (ValueError(), 3, "ValueError: no message"),
    ],
)
def test_every_failure_has_a_message_and_a_code(error: Exception, code: int, words: str) -> None:
    message, found = explain_failure(error)
    assert found == code
    assert words in message and "\n" not in message


def test_install_lines() -> None:
    assert install_line("torch_pruning.dependency") == 'pip install "torch-pruning<1.7,>=1.6.1"'
    assert install_line("nncf") == 'pip install "edgekd[openvino]"'
    assert install_line("nobody") is None
