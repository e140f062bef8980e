"""What a predictor says, what it refuses to say, and what it takes for one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekd.errors import InputError, StageError
from edgekd.predict.energy import estimate_energy
from edgekd.predict.features import Kernel
from edgekd.predict.latency import network_ms
from edgekd.predict.predictor import Predictor, distance, find_predictor, profile, read_predictor, shipped_predictors
from edgekd.target import target_files

from .conftest import BOARD, FAMILIES, make_predictor, network, networks


def test_it_predicts_what_it_has_not_seen_within_its_interval(predictor: Predictor) -> None:
    inside = 0
    for seed in range(100, 130):
        kernels = network(FAMILIES["mixed"], 6, seed)
        said = predictor.predict(kernels)
        inside += said.low_ms <= network_ms(kernels, BOARD) <= said.high_ms
    assert said.level == 0.9 and inside >= 27
    assert said.ms == pytest.approx(float(said.times.total.sum()) / 1e3)
    figure = said.figure(predictor)
    assert figure.how == "predicted" and figure.low is not None and figure.low < said.ms


def test_the_interval_is_the_error_of_left_out_families(predictor: Predictor) -> None:
    said = predictor.predict(network(FAMILIES["mixed"], 6, 100))
    errors = sorted(abs(np.log(one.measured_ms / (one.family_left_out_ms or 0))) for one in predictor.networks)
    assert said.high_ms / said.ms == pytest.approx(np.exp(errors[-1]))  # 12 errors: the 12th holds 90 %
    named = predictor.predict(network(FAMILIES["mixed"], 6, 100), "mixed")
    assert named.high_ms < said.high_ms


@pytest.mark.parametrize(
    ("kernels", "words"),
    [
        (network(FAMILIES["mixed"], 2000, 1), "multiply-accumulates"),
        (network(FAMILIES["mixed"], 6, 1) * 5, "60 kernels"),
        (network(("conv", "recurrent"), 6, 1), "recurrent"),
        (network(("depthwise",), 6, 1), "share the work"),
    ],
)
def test_out_of_range_it_says_so_instead(predictor: Predictor, kernels: tuple[Kernel, ...], words: str) -> None:
    with pytest.raises(StageError, match="out of the range") as refusal:
        predictor.predict(kernels)
    assert words in str(refusal.value)


def test_of_two_families_nothing_is_said_of_others() -> None:
    two = make_predictor(networks(["plain", "mobile"], noise=0.05))
    kernels = network(FAMILIES["plain"], 6, 100)
    with pytest.raises(StageError, match="--family"):
        two.predict(kernels)
    assert "networks of plain" in two.predict(kernels, "plain").rests_on
    with pytest.raises(StageError, match="share the work"):
        two.predict(kernels, "mobile")
    with pytest.raises(InputError, match="plain, mobile"):
        two.predict(kernels, "huge")


def test_it_survives_its_file(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "coefficients.json"
    predictor.save(path)
    again = read_predictor(path)
    assert again == predictor
    kernels = network(FAMILIES["plain"], 6, 100)
    assert again.predict(kernels).ms == predictor.predict(kernels).ms


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema"),
        ({"terms": {}}, "missing"),
        ({"exponent": 0.5}, "exponent"),
        ({"precision": "int3"}, "precision"),
        ({"networks": []}, "networks"),
        ({"surprise": 1}, "surprise"),
        ({"target": "../../etc"}, "target"),
    ],
)
def test_a_wrong_file_names_the_field(predictor: Predictor, tmp_path: Path, change: dict, words: str) -> None:  # type: ignore[type-arg]
    path = tmp_path / "coefficients.json"
    path.write_text(json.dumps({**predictor.model_dump(mode="json", by_alias=True), **change}))
    with pytest.raises(InputError, match=words):
        read_predictor(path)


def test_a_coefficient_is_positive_and_finite(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "coefficients.json"
    for value in ("-1", "0", "NaN", "1e999", '"x"'):
        text = json.dumps(predictor.model_dump(mode="json", by_alias=True))
        path.write_text(text.replace('"whole": 1.0', f'"whole": {value}'))
        with pytest.raises(InputError, match="whole"):
            read_predictor(path)
    path.write_bytes(b"\x80\x04N.")  # a pickle
    with pytest.raises(InputError, match="coefficients"):
        read_predictor(path)


def test_what_is_shipped_is_of_known_boards_and_states_its_errors() -> None:
    shipped = shipped_predictors()
    assert shipped
    for name, one in shipped.items():
        assert one.name == name and one.target in target_files()
        assert all(network.left_out_ms for network in one.networks)


def test_the_right_one_is_found() -> None:
    assert find_predictor("raspberry-pi-5", None, "fp32", None, "onnxruntime").runtime == "onnxruntime"
    assert find_predictor("raspberry-pi-4", None, "fp32", 4).threads == 4
    with pytest.raises(InputError, match="--threads"):
        find_predictor("raspberry-pi-4", None, "fp32")
    with pytest.raises(StageError, match="edgekd calibrate"):
        find_predictor("imx500", None, "int8")


def test_profiles_say_who_does_the_work() -> None:
    kernels = (Kernel("a", "conv", "fp32", macs=3, bytes=1), Kernel("b", "pool", "fp32", macs=0, bytes=1))
    assert profile(kernels) == {"conv": 0.75, "pool": 0.25}
    assert distance(profile(kernels), {"conv": 0.25, "pool": 0.75}) == 0.5


def test_energy_is_operations_times_picojoules() -> None:
    kernel = Kernel("a", "conv", "int8", macs=10**9, operations=0, bytes=10**6)
    figures = estimate_energy([kernel])
    assert figures["energy_compute_estimated_mj"].value == pytest.approx(0.23)
    assert figures["energy_dram_estimated_mj"].value == pytest.approx(0.16)
    assert estimate_energy([replace(kernel, width="fp32")])["energy_compute_estimated_mj"].value == pytest.approx(4.6)
    assert all(figure.how == "predicted" and "Horowitz" in (figure.on or "") for figure in figures.values())
