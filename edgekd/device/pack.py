"""Build `run.pyz`: this package as one file that Python runs. The same source gives the same bytes."""

import io
import zipfile
from pathlib import Path

from .errors import DeviceError
from .files import write_atomically

_MAIN = b"from device.__main__ import main\n\nraise SystemExit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16


def write_pyz(path: Path) -> None:
    """Write `run.pyz`, which holds the `*.py` files of this package as `device/`.

    Nothing is compressed, for compressors differ from machine to machine.

    Raises:
        DeviceError: This package has no files of its own, because it runs from a `run.pyz` itself.
    """
    package = Path(__file__).parent
    sources = {f"device/{file.relative_to(package).as_posix()}": file for file in package.rglob("*.py")}
    if not sources:
        raise DeviceError("run.pyz is built on the host, by edgekd, not by another run.pyz")
    content = {name: file.read_bytes().replace(b"\r\n", b"\n") for name, file in sources.items()}
    content["__main__.py"] = _MAIN
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = _MODE
            archive.writestr(entry, content[name])
    write_atomically(path, buffer.getvalue())
