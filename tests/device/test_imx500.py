"""What the camera's metadata say of the network, and what is told where there is no such camera."""

from pathlib import Path

import pytest

from edgekd.device.errors import CheckFailed, DeviceError, RuntimeMissing
from edgekd.device.imx500 import profile_camera, summarize
from edgekd.device.printing import profile_text


def frame(number: int, network_us: int = 17_000) -> dict[str, object]:
    """Return a frame's metadata at 30 frames a second."""
    return {"SensorTimestamp": number * 33_333_333, "CnnKpiInfo": (network_us, 1_200)}


def test_times_are_those_that_the_sensor_tells() -> None:
    frames = [frame(number, 90_000 if number < 10 else 17_000 + number) for number in range(111)]
    found = summarize([{"SensorTimestamp": 0}, *frames])  # the first frame comes before the network is loaded
    assert found["latency"]["n"] == 101 and found["latency"]["p50_ms"] == pytest.approx(17.06)
    assert found["latency"]["max_ms"] < 18 and found["latency"]["p95_ms"] is None
    assert found["preprocess_p50_ms"] == 1.2 and found["frames_per_second"] == pytest.approx(30.0, rel=1e-6)


def test_a_camera_without_times_is_no_zero() -> None:
    with pytest.raises(CheckFailed, match="fewer than two frames"):
        summarize([{"SensorTimestamp": number} for number in range(50)])


def test_without_the_camera_library_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="does not exist"):
        profile_camera(tmp_path / "network.rpk")
    (tmp_path / "network.rpk").write_bytes(b"")
    with pytest.raises(RuntimeMissing, match="apt install imx500-all"):
        profile_camera(tmp_path / "network.rpk")


def test_the_profile_is_shown_like_any_other() -> None:
    from edgekd.device.machine import read_machine
    from edgekd.device.profile import absent_profile

    result = {
        **absent_profile("the IMX500 tells the times of its network, nothing else"),
        **summarize(map(frame, range(200))),
        "artifact": {"name": "network", "precision": "int8"},
        "session": {"runtime": "picamera2", "version": "0.3", "provider": "IMX500", "threads": "0"},
        "batch": 1,
        "cold_start": {"load_ms": 2000.0, "first_call_ms": None},
        "before": read_machine().to_dict(),
    }
    text = profile_text(result)
    assert "p50           17 ms" in text and "frames/s      30" in text and "nothing else" in text
