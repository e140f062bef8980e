from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.models.signature import Signature, TensorSpec, parse_inputs, read_sidecar


def test_inputs_are_read_from_text() -> None:
    image, mask = parse_inputs(["image:Nx3x8x8", "mask:1x8x8:bool"])
    assert image == TensorSpec(name="image", shape=("batch", 3, 8, 8))
    assert mask.shape == ("batch", 8, 8) and mask.dtype == "bool"
    assert parse_inputs(["1x28x28"])[0].shape == ("batch", 28, 28)


@pytest.mark.parametrize("text", ["", "image", "3*4", "image:Nx0x3", "image:Nx3:float33", "1 x 3", "a:b:c:d"])
def test_wrong_inputs_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="--input"):
        parse_inputs([text])


def test_a_sidecar_is_found_beside_its_model(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text('task = "regression"')
    (tmp_path / "other.toml").write_text('task = "anomaly"')
    assert read_sidecar(tmp_path / "net.pt").task == "regression"
    assert read_sidecar(tmp_path / "other.pt").task == "anomaly"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('task = "guess"', "task"),
        ("= 1", "cannot read"),
        ("[[inputs]]\nname = 'x'\nshape = ['batch', 0]", "inputs.0.shape"),
        ("[preprocessing]\nmean = [1, 2, 3]\nstd = [1]", "mean and std"),
        ("[preprocessing]\nstd = [0.0]", "std must not be 0"),
        ('metric = "os:system"', "names no code"),
        ('trust = ["os"]', "trust"),
    ],
)
def test_a_wrong_sidecar_names_the_field(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "model.toml").write_text(text)
    with pytest.raises(InputError, match=words):
        read_sidecar(tmp_path / "model.pt")


def test_random_inputs_have_the_right_shapes_and_are_repeatable() -> None:
    (image,) = parse_inputs(["image:Nx3x4x4"])
    (ids,) = parse_inputs(["ids:Nx7:int64"])
    signature = Signature(inputs=(image, ids))
    first, second = signature.random_inputs(5), signature.random_inputs(5)
    assert first["image"].shape == (5, 3, 4, 4) and first["ids"].dtype == "int64"
    assert (first["image"] == second["image"]).all()


@pytest.mark.parametrize(("name", "dtype"), [("valid", "bool"), ("attention_mask", "int64"), ("valid", "float32")])
def test_random_padding_masks_leave_nothing_out(name: str, dtype: str) -> None:
    """Attention over a sample of padding alone is not a number."""
    (mask,) = parse_inputs([f"{name}:Nx1:{dtype}"])
    drawn = Signature(inputs=(mask,)).random_inputs(50)[name]
    assert drawn.dtype == dtype and drawn.all()


@pytest.mark.parametrize("task", ["embedding", "tokens", "detection"])
def test_a_sidecar_names_the_task(tmp_path: Path, task: str) -> None:
    (tmp_path / "model.toml").write_text(f'task = "{task}"')
    assert read_sidecar(tmp_path / "model.pt").task == task
