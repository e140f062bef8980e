from dataclasses import replace

import pytest

from edgekd.host import describe, is_target, latency_figures, this_machine
from edgekd.target import load_target, target_files


def test_only_a_real_machine_of_that_kind_is_the_target() -> None:
    machine = replace(this_machine(), architecture="x86_64", board=None, emulated=False)
    assert is_target(load_target("generic-x86")[0], machine)
    assert not is_target(load_target("generic-x86")[0], replace(machine, architecture="aarch64"))
    assert not is_target(load_target("generic-x86")[0], replace(machine, emulated=True))
    pi = replace(machine, architecture="aarch64", board="Raspberry Pi 5 Model B Rev 1.0")
    assert is_target(load_target("raspberry-pi-5")[0], pi)
    assert not is_target(load_target("raspberry-pi-4")[0], pi)
    assert not is_target(load_target("raspberry-pi-5")[0], machine)


@pytest.mark.parametrize(
    ("board", "memory_mib", "name"),
    [
        ("Raspberry Pi 4 Model B Rev 1.5", 7800, "raspberry-pi-4"),
        ("Raspberry Pi 5 Model B Rev 1.1", 3900, "raspberry-pi-5"),
        ("Raspberry Pi Zero 2 W Rev 1.0", 420, "raspberry-pi-zero-2w"),
        ("Raspberry Pi 500 Rev 1.0", 7900, None),
        ("NVIDIA Jetson AGX Orin Developer Kit", 62_800, "jetson-agx-orin-64gb"),
        ("NVIDIA Jetson AGX Orin Developer Kit", 30_600, "jetson-agx-orin-32gb"),
        ("NVIDIA Jetson AGX Orin Developer Kit", None, None),
        ("NVIDIA Jetson AGX Thor Developer Kit", 125_800, "jetson-agx-thor"),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", 15_600, "jetson-orin-nx-16gb"),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super", 7_600, "jetson-orin-nx-8gb"),
        ("NVIDIA Orin NX Developer Kit", 15_500, "jetson-orin-nx-16gb"),
        ("NVIDIA Orin Nano Developer Kit", 7_400, "jetson-orin-nano-8gb"),
        ("NVIDIA Jetson Orin Nano Developer Kit", 7_600, "jetson-orin-nano-8gb"),
        ("NVIDIA Jetson Orin Nano Developer Kit", 3_400, "jetson-orin-nano-4gb"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit", 7_600, "jetson-orin-nano-8gb"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", 7_620, "jetson-orin-nano-super"),
        ("NVIDIA Jetson Nano Developer Kit", 3_900, None),
        ("Some other board", 8_000, None),
        (None, 8_000, None),
    ],
)
def test_a_board_is_the_one_target_that_it_names_itself(
    board: str | None, memory_mib: float | None, name: str | None
) -> None:
    machine = replace(this_machine(), architecture="aarch64", emulated=False, board=board, memory_mib=memory_mib)
    found = [one for one in target_files() if is_target(load_target(one)[0], machine)]
    assert found == ([] if name is None else [name])


def test_a_copy_of_a_target_is_recognized_by_what_its_file_says() -> None:
    machine = replace(this_machine(), architecture="x86_64", board=None, emulated=False)
    copy = load_target("generic-x86")[0].model_copy(update={"name": "my-server", "title": "my-server"})
    assert is_target(copy, machine)
    assert not is_target(copy.model_copy(update={"architectures": ()}), machine)


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
