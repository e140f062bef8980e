"""A clock that moves only when the measured call is made."""

from collections.abc import Callable, Iterator


class FakeClock:
    """Calling it reads the time in nanoseconds; `run` lets the next duration (in ms) pass."""

    def __init__(
        self, durations_ms: Iterator[float] | None = None, on_call: Callable[[], object] | None = None
    ) -> None:
        self._now = 0.0
        self._durations = durations_ms
        self._on_call = on_call

    def __call__(self) -> int:
        return round(self._now)

    def run(self) -> None:
        assert self._durations is not None
        if self._on_call is not None:
            self._on_call()
        self.pass_ms(next(self._durations))

    def pass_ms(self, duration_ms: float) -> None:
        self._now += duration_ms * 1e6
