"""Tells the format of a model file by its content."""

import json
import struct
from pathlib import Path
from typing import Literal

from edgekd.errors import InputError
from edgekd.models.loading.pickle_scan import first_opcode
from edgekd.models.loading.reading import read_record, reading, record_names

Format = Literal["module", "state-dict", "safetensors", "torchscript", "exported-program", "onnx"]

# torch.save(..., _use_new_zipfile_serialization=False): the pickled magic number 0x1950a86a20f9469cfc6c
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_MAX_HEADER = 100_000_000  # the safetensors format's own limit

_OTHER_FILES = (  # offset, bytes, what it is and what to do
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x1f\x8b", "gzip-compressed: unpack it first"),
    (0, b"\x89HDF", "an HDF5 (Keras) file: export the network to ONNX"),
    (4, b"TFL3", "a TensorFlow Lite file: export the network to ONNX instead"),
    (4, b"PTMF", "a PyTorch Mobile file: save the network with torch.export.save instead"),
    (4, b"ORTM", "an ONNX Runtime (.ort) file: use the ONNX file it was made from"),
    (257, b"ustar", "a tar archive, torch's format before 2018: load it there and save its state_dict() again"),
)

_ADVICE = (
    "edgekd reads torch.save files (a whole network or its state_dict), safetensors, TorchScript, "
    "torch.export .pt2 archives and ONNX."
)


def detect_format(path: str | Path) -> Format:
    """Return the format of a model file, told by its content, whatever its suffix.

    Raises:
        InputError: the file is missing, empty, damaged or no model file.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist. Check the spelling, or the folder you are in.")
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name the model file in it.")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file. Name a model file.")
    with reading(path):
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{path} is empty. Copy it again, or save it again from the training code.")
        with path.open("rb") as file:
            start = file.read(512)
        if start[:4] == b"PK\x03\x04":
            return _zip_format(path)
        if start.startswith(_LEGACY_START):
            return _pickle_format(path.read_bytes(), skip=3)
        for offset, magic, what in _OTHER_FILES:
            if start[offset:].startswith(magic):
                raise InputError(f"{path} is {what}. {_ADVICE}")
        if _is_safetensors(path, start, size):
            return "safetensors"
        if start[0] == 0x80:
            raise InputError(f"{path} is a Python pickle that torch.save did not write. Save it with torch.save.")
        if start[0] == 0x08 and _is_onnx(path):
            return "onnx"
    raise InputError(f"{path} is not a model file that edgekd knows. {_ADVICE}")


def _zip_format(path: Path) -> Format:
    names = set(record_names(path))
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return "exported-program"
    if "data.pkl" in names:
        if "constants.pkl" in names:
            return "torchscript"
        return _pickle_format(read_record(path, "data.pkl"), skip=0)
    if "model.json" in names or any(name.startswith("code/") for name in names):
        raise InputError(f"{path} is TorchScript of an unknown or very old version. Save it again with torch.jit.save.")
    raise InputError(f"{path} is a zip archive, but none that torch wrote. {_ADVICE}")


def _pickle_format(pickle: bytes, skip: int) -> Format:
    """Return "state-dict" where the pickle's outermost object is a dictionary."""
    name, argument = first_opcode(pickle, skip)
    is_dict = name in ("EMPTY_DICT", "DICT") or argument == "collections OrderedDict"
    return "state-dict" if is_dict else "module"


def _is_safetensors(path: Path, start: bytes, size: int) -> bool:
    if len(start) < 10 or start[8:9] != b"{":
        return False
    (header_size,) = struct.unpack("<Q", start[:8])
    if header_size > min(size - 8, _MAX_HEADER):
        raise InputError(f"{path} is a truncated safetensors file, or none at all. Copy or save it again.")
    with path.open("rb") as file:
        file.seek(8)
        header = file.read(header_size)
    try:
        return isinstance(json.loads(header), dict)
    except ValueError as error:
        raise InputError(f"{path} is a safetensors file with a damaged header. Copy or save it again.") from error


def _is_onnx(path: Path) -> bool:
    import onnx

    from edgekd.models.loading.onnx_file import MAX_SIZE

    if path.stat().st_size >= MAX_SIZE:
        if path.suffix == ".onnx":
            raise InputError(f"{path} is larger than ONNX allows (2 GiB). Export it with external data.")
        return False
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except Exception:  # protobuf's DecodeError, which has moved between versions
        if path.suffix == ".onnx":
            raise InputError(f"{path} is a damaged or incomplete ONNX file. Copy it or export it again.") from None
        return False
    return bool(model.ir_version) and model.HasField("graph")
