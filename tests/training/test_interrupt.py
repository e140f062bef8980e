import os
import signal
import threading

import pytest

from edgekd.training.interrupt import between_steps


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def _usual_handler() -> object:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_for_the_end_of_a_step() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), between_steps() as interrupted:
        interrupted()
        ctrl_c()
        done.append("the rest of the step")
        interrupted()
        done.append("the next step")
    assert done == ["the rest of the step"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_comes_at_once_and_the_last_step_s_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), between_steps():
        ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()


def test_another_s_handler_and_other_threads_are_left_alone() -> None:
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
    with between_steps():
        ctrl_c()
    assert seen == ["mine"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    entered = []

    def work() -> None:
        with between_steps():
            entered.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [signal.default_int_handler]
