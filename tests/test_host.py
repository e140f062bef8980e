from dataclasses import replace

from edgekd.host import describe, is_target, latency_figures, this_machine
from edgekd.target import load_target


def test_only_a_real_machine_of_that_kind_is_the_target() -> None:
    machine = replace(this_machine(), architecture="x86_64", board=None, emulated=False)
    assert is_target(load_target("generic-x86")[0], machine)
    assert not is_target(load_target("generic-x86")[0], replace(machine, architecture="aarch64"))
    assert not is_target(load_target("generic-x86")[0], replace(machine, emulated=True))
    pi = replace(machine, architecture="aarch64", board="Raspberry Pi 5 Model B Rev 1.0")
    assert is_target(load_target("raspberry-pi-5")[0], pi)
    assert not is_target(load_target("raspberry-pi-4")[0], pi)
    assert not is_target(load_target("raspberry-pi-5")[0], machine)


def test_a_machine_is_described_with_its_int8_instructions() -> None:
    machine = this_machine()
    assert "no int8 instructions" in describe(replace(machine, int8_isa=None))
    assert describe(replace(machine, cpu_model="Cortex-A76", int8_isa="asimddp")) == "Cortex-A76, asimddp"


def test_a_percentile_without_its_samples_is_absent() -> None:
    timed = {
        "n": 20,
        "p50_ms": 1.0,
        "p50_low_ms": 0.9,
        "p50_high_ms": 1.1,
        "p95_ms": None,
        "p95_low_ms": None,
        "p95_high_ms": None,
    }
    figures = latency_figures(timed, "here")
    assert figures["latency_p50_ms"].value == 1.0 and figures["latency_p50_ms"].low == 0.9
    assert figures["latency_p95_ms"].value is None and "20 calls" in str(figures["latency_p95_ms"].reason)
