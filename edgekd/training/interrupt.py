"""Ctrl-C between two steps, not within one: an interrupt that reaches torch's C++ code may abort the process."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back; the function that is given raises it, to be called where it may come. A second one comes at once.

    Elsewhere than in the main thread, and where somebody else handles the signal, nothing is changed.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def due() -> None:
        if asked:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield due
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    due()
