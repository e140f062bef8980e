import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.device.errors import CheckFailed, DeviceError
from edgekd.device.manifest import Manifest, read_manifest, verify_files, write_manifest


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_manifest_is_read_back_as_it_was_written(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest
    assert json.loads((artifact / "manifest.json").read_text())["schema"] == 1
    verify_files(artifact, manifest)


def test_null_fields_are_read_back(make_artifact: Callable[..., Path]) -> None:
    folder = make_artifact(labels=None, preprocessing=None, versions={})
    manifest = read_manifest(folder)
    assert manifest.labels is None and manifest.preprocessing is None and manifest.versions == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema=2), "schema 2"),
        (lambda m: m.update(schema=True), "schema"),
        (lambda m: m.pop("task"), "lacks 'task'"),
        (lambda m: m.update(extra=1), "unknown fields: 'extra'"),
        (lambda m: m.update(name=""), "name must be a text"),
        (lambda m: m.update(name="\ud800"), "name must be a text"),
        (lambda m: m.update(labels=[]), "labels must be a list"),
        (lambda m: m.update(inputs=[{"name": "x", "shape": [-1], "dtype": "float32"}]), "shape"),
        (lambda m: m.update(model_file="other.onnx"), "'other.onnx' is not among its files"),
        (lambda m: m["selfcheck"].update(cosine=1.5), "between 0 and 1"),
        (lambda m: m["selfcheck"].update(cosine=float("nan")), "must be a number"),
        (lambda m: m["selfcheck"].update(file="run.txt"), "'run.txt' is not among its files"),
        (lambda m: m["preprocessing"].update(std=[0.0]), "none of the std 0"),
        (lambda m: m["preprocessing"].update(layout="CHW"), "NCHW or NHWC"),
        (lambda m: m["preprocessing"].update(scale=10**400), "must be a number"),
        (lambda m: m["files"]["model.onnx"].update(sha256="ABC"), "64 lower-case hex digits"),
        (lambda m: m["files"]["model.onnx"].update(bytes=1.5), "whole number"),
        (lambda m: m.update(files=[]), "must be an object"),
    ],
)
def test_wrong_manifest_is_refused_and_the_field_named(artifact: Path, change: Any, message: str) -> None:
    edit(artifact, change)
    with pytest.raises(DeviceError, match="manifest.json") as caught:
        read_manifest(artifact)
    assert message in str(caught.value) and caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "..", ".", "a/b", "a\\b", "C:x", "a\nb", "a\0b", ""])
def test_name_that_leaves_the_folder_is_refused(artifact: Path, name: str) -> None:
    edit(artifact, lambda m: m["files"].update({name: m["files"]["model.onnx"]}))
    with pytest.raises(DeviceError, match="files must be"):
        read_manifest(artifact)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\ufeff{}"])
def test_damaged_json_is_refused(artifact: Path, text: str) -> None:
    (artifact / "manifest.json").write_text(text)
    with pytest.raises(DeviceError, match="manifest.json"):
        read_manifest(artifact)


def test_missing_manifest_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="holds no manifest.json"):
        read_manifest(tmp_path)


def test_manifest_that_could_not_be_read_back_is_not_written(artifact: Path) -> None:
    before = (artifact / "manifest.json").read_bytes()
    wrong = dataclasses.replace(read_manifest(artifact), model_file="../model.onnx")
    with pytest.raises(DeviceError):
        write_manifest(artifact, wrong)
    assert (artifact / "manifest.json").read_bytes() == before
    assert not list(artifact.glob(".*"))


@pytest.mark.parametrize("size_too", [False, True])
def test_tampered_file_is_named(artifact: Path, size_too: bool) -> None:
    content = bytearray((artifact / "model.onnx").read_bytes())
    content[-1] ^= 1
    (artifact / "model.onnx").write_bytes(bytes(content) + b"x" * size_too)
    with pytest.raises(CheckFailed, match="model.onnx"):
        verify_files(artifact, read_manifest(artifact))


def test_missing_file_is_named(artifact: Path) -> None:
    (artifact / "samples.npz").unlink()
    with pytest.raises(CheckFailed, match="samples.npz is missing"):
        verify_files(artifact, read_manifest(artifact))


def test_link_out_of_the_folder_is_refused(artifact: Path) -> None:
    os.rename(artifact / "model.onnx", artifact.parent / "model.onnx")
    (artifact / "model.onnx").symlink_to(artifact.parent / "model.onnx")
    with pytest.raises(DeviceError, match="model.onnx is a link that leads out"):
        verify_files(artifact, read_manifest(artifact))


def test_circular_link_and_folder_in_place_of_a_file_are_refused(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    (artifact / "model.onnx").unlink()
    (artifact / "model.onnx").symlink_to("model.onnx")
    with pytest.raises(CheckFailed, match="model.onnx"):
        verify_files(artifact, manifest)
    (artifact / "model.onnx").unlink()
    (artifact / "model.onnx").mkdir()
    with pytest.raises(CheckFailed, match="model.onnx"):
        verify_files(artifact, manifest)
