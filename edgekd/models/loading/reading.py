"""What every reader shares: one clear message for a file that cannot be read, and torch's zip archives."""

import errno
import io
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgekd.errors import InputError

_ZIP_START = b"PK\x03\x04"
_FREE_EXPANSION = 64 * 2**20  # bytes that any archive may expand by; torch stores tensors uncompressed
_MAX_EXPANSION = 20


def shown(text: str, limit: int = 120) -> str:
    """Return text from an untrusted file fit for a terminal: printable ASCII, cut to `limit` characters."""
    clean = text if re.fullmatch(r"[ -~]*", text) else ascii(text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into one `InputError`, and keep its warnings quiet."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # what a parser says of an offset that cannot be
            raise _damaged(path, error) from error
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # parsers of untrusted bytes raise anything: KeyError, struct.error, RecursionError, ...
        raise _damaged(path, error) from error
    finally:
        logging.disable(disabled)


def _damaged(path: Path, error: Exception) -> InputError:
    reason = shown((str(error).strip().splitlines() or [""])[0]) or "no reason given"
    return InputError(
        f"{path} cannot be read ({type(error).__name__}: {reason}). "
        "It is damaged or incomplete: copy it again, or save it again from the training code."
    )


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with reading(path), path.open("rb") as file:
        if file.read(4) != _ZIP_START:  # a zip may follow other bytes; torch would read those first
            raise InputError(f"{path} is not a zip archive. Save it again with torch.save or torch.export.save.")
        try:
            archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise InputError(f"{path} is an incomplete zip archive: copy or save it again.") from error
        with archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if not names:
                raise InputError(f"{path} is an empty zip archive.")
            if len(set(names)) < len(names):
                raise InputError(f"{path} holds two records of one name; such an archive is damaged or crafted.")
            size = sum(entry.file_size for entry in entries)
            if size > _FREE_EXPANSION + _MAX_EXPANSION * path.stat().st_size:
                raise InputError(f"{path} would expand to {size:,} bytes; such an archive is damaged or crafted.")
            yield archive


def _record_names(names: list[str]) -> dict[str, str]:
    """Return record name to zip entry: torch puts all records into one folder, old `.pt2` files into none."""
    folder = names[0].split("/", 1)[0] + "/"
    if all(name.startswith(folder) for name in names):
        return {name[len(folder) :]: name for name in names}
    return {name: name for name in names}


def record_names(path: Path) -> list[str]:
    """Return the names of an archive's records, without the folder they share."""
    with _opened(path) as archive:
        return list(_record_names(archive.namelist()))


def read_record(path: Path, name: str) -> bytes:
    """Return one record; its checksum is verified."""
    with _opened(path) as archive:
        return archive.read(_record_names(archive.namelist())[name])


def read_records(path: Path) -> dict[str, bytes]:
    """Return all records of an archive; their checksums are verified."""
    with _opened(path) as archive:
        return {name: archive.read(entry) for name, entry in _record_names(archive.namelist()).items()}


def write_archive(records: Mapping[str, bytes]) -> io.BytesIO:
    """Return a new archive of exactly these records, so that torch reads what was checked and nothing else."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in records.items():
            archive.writestr(f"model/{name}", data)
    buffer.seek(0)
    return buffer
