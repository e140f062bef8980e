"""Every format is told by content; everything else gets one clear message."""

from pathlib import Path

import pytest
import torch

from edgekd.errors import InputError
from edgekd.models.loading import detect_format, load_network

from .crafted import FACTORY, call_pickle, empty_zip, save_tar


def test_every_format_is_told_by_its_content(good_files: dict[str, Path], tmp_path: Path) -> None:
    for expected, source in good_files.items():
        path = tmp_path / "model.bin"
        path.write_bytes(source.read_bytes())
        assert detect_format(path) == ("state-dict" if expected == "legacy" else expected)


def test_networks_in_the_old_format_are_networks(tmp_path: Path) -> None:
    torch.save(torch.nn.ReLU(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert detect_format(tmp_path / "old.pt") == "module"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"these are not the weights you are looking for\n", "is not a model file that edgekd knows"),
        (bytes(range(256)) * 4, "is not a model file that edgekd knows"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "is a PNG picture"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, "is a JPEG picture"),
        (b"\x1c\0\0\0TFL3" + b"\0" * 40, "TensorFlow Lite"),
        (b"\x1c\0\0\0PTMF" + b"\0" * 40, "PyTorch Mobile"),
        (b"\x80\x04K\x01.", "pickle that torch.save did not write"),
        (b"\x08\x07random protobuf?", "is not a model file"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_network(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_network(tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match="is a folder"):
        load_network(tmp_path)


def test_truncated_files_are_refused(good_files: dict[str, Path], tmp_path: Path) -> None:
    for source in good_files.values():
        content = source.read_bytes()
        for length in (len(content) // 2, len(content) - 1, 40):
            path = tmp_path / f"model{source.suffix}"
            path.write_bytes(content[:length])
            with pytest.raises(InputError):
                load_network(path, factory=FACTORY if source.stem in ("weights", "legacy") else None)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="zip archive, but none that torch wrote"):
        detect_format(empty_zip(tmp_path / "letter.docx"))
    with pytest.raises(InputError, match="tar archive"):
        detect_format(save_tar(tmp_path / "old.pt", call_pickle("os", "system", "true")))


def test_a_damaged_onnx_file_is_named_as_one(good_files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(good_files["onnx"].read_bytes()[:-10])
    with pytest.raises(InputError, match="damaged or incomplete ONNX"):
        detect_format(path)


def test_an_onnx_file_beyond_its_limit_is_not_called_damaged(tmp_path: Path) -> None:
    for name, message in (("model.onnx", "larger than ONNX allows"), ("model.bin", "is not a model file")):
        with (tmp_path / name).open("wb") as file:
            file.write(b"\x08")
            file.truncate(2**31)  # takes no space
        with pytest.raises(InputError, match=message):
            detect_format(tmp_path / name)
