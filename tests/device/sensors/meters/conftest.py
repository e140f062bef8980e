"""Meters that are heard quickly."""

import pytest

from edgekd.device.sensors.meters import meter


@pytest.fixture(autouse=True)
def _short_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_LISTEN_S", 0.1), ("_PATIENCE_S", 1.0), ("_LATE_S", 0.3)):
        monkeypatch.setattr(meter, name, seconds)
