from pathlib import Path

import pytest

from edgekd.device.launches.noise import Counters, disturbances, noise_between, read_counters


def test_the_kernel_s_counters_are_read(tmp_path: Path) -> None:
    for name, text in {
        "proc/self/schedstat": "700 300 5\n",
        "proc/stat": "cpu  10 20 30 40 50 60 70 8 0 0\ncpu0 1 2 3\n",
        "proc/pressure/cpu": "some avg10=1.00 avg60=2.00 avg300=3.00 total=4500\nfull avg10=0 total=9\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = read_counters(tmp_path)
    assert (found.waited_ns, found.pressure_us, found.stolen, found.ticks) == (300, 4500, 8, 288)


def test_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    found = read_counters(tmp_path)
    assert (found.waited_ns, found.pressure_us, found.stolen) == (None, None, None)
    noise = noise_between(found, found).to_dict()
    assert noise["waited_percent"] is None and noise["stolen_percent"] is None
    assert disturbances([noise]) == []


def test_shares_of_the_time_and_what_is_too_much() -> None:
    before = Counters(0, 0, 3, 0, 0, 0)
    quiet = noise_between(before, Counters(10**9, 10**7, 4, 20_000, 1, 200)).to_dict()
    busy = noise_between(before, Counters(10**9, 4 * 10**8, 90, 900_000, 20, 200)).to_dict()
    assert busy["waited_percent"] == pytest.approx(40) and busy["pressure_percent"] == pytest.approx(90)
    assert busy["stolen_percent"] == pytest.approx(10) and busy["involuntary_switches"] == 87
    assert disturbances([quiet]) == []
    assert [note.rpartition(" % ")[0][-2:] for note in disturbances([quiet, busy])] == ["40", "90", "10"]
    assert "under-voltage" in disturbances([quiet | {"throttled": ["under-voltage"]}])[0]
