import pytest

from edgekd.device.errors import DeviceError
from edgekd.device.gate.quantities import quantity, shown


@pytest.mark.parametrize(
    ("written", "dimension", "value"),
    [
        ("20ms", "time", 20.0),
        (" 1.5 s ", "time", 1500.0),
        ("250us", "time", 0.25),
        ("50mJ", "energy", 50.0),
        ("0.5J", "energy", 500.0),
        ("4MB", "bytes", 4e6),
        ("4MiB", "bytes", 4 * 2**20),
        ("1%", "accuracy", 1.0),
        ("0 points", "accuracy", 0.0),
        ("2.5M", "count", 2.5e6),
        (2_500_000, "count", 2.5e6),
        ("1e3", "count", 1000.0),
    ],
)
def test_what_is_written_is_converted(written: object, dimension: str, value: float) -> None:
    assert quantity(written, dimension, "x") == pytest.approx(value)


@pytest.mark.parametrize(
    ("written", "dimension", "words"),
    [
        ("20", "time", "lacks its unit: write it as 20ms; known: ms, us, s"),
        (20, "time", "lacks its unit"),
        ("20mz", "time", "unknown unit 'mz' in '20mz', did you mean 'ms'"),
        ("4mb", "bytes", "did you mean 'MB'"),
        ("20ms", "energy", "known: mJ, uJ, J"),
        ("-3ms", "time", "no number of 0 or more"),
        ("nan ms", "time", "no number"),
        ("", "time", "no number"),
        (True, "count", "no number"),
        ([1], "time", "no number"),
        ("infms", "time", "no number"),
        ("1e999ms", "time", "too large"),
        ("1e308s", "time", "too large"),
        (float("inf"), "count", "no number"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_known_units(written: object, dimension: str, words: str) -> None:
    with pytest.raises(DeviceError) as refused:
        quantity(written, dimension, "latency-p95")
    assert str(refused.value).startswith("latency-p95: ") and words in str(refused.value)


def test_values_are_shown_in_the_unit_that_suits_them() -> None:
    assert [shown(value, "time") for value in (0.05, 20.0, 1500.0)] == ["50 us", "20 ms", "1.5 s"]
    assert [shown(value, "bytes") for value in (12.0, 329_869.0, 1.2e6)] == ["12 B", "329.9 kB", "1.2 MB"]
    assert [shown(value, "bytes") for value in (1e9, 999_990.0, 999_960_000.0)] == ["1 GB", "1 MB", "1 GB"]
    assert shown(2.5e6, "count") == "2.5 M" and shown(-0.08, "accuracy") == "-0.08 points"
