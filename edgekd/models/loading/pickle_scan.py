"""Lists the classes and functions that a file's pickles ask for, without unpickling anything."""

import io
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # Python 2's names; torch's unpickler maps them as well
from pathlib import Path

from edgekd.models.loading.reading import read_records, reading

_LEGACY_PICKLES = 5  # torch.save without zip: magic number, protocol, system, the object, storage keys; then raw data

Global = tuple[str, str]  # module and name


def globals_in(pickle: bytes, count: int = 1) -> set[Global]:
    """Return (module, name) of every global that `count` pickles in a row ask for, in any pickle protocol.

    STACK_GLOBAL takes its names from the stack: the last two strings are reported, "?" where they are not known.
    What may really be loaded is decided by torch's unpickler, so a crafted pickle gains nothing by hiding a name.
    """
    found: set[Global] = set()
    stream = io.BytesIO(pickle)
    for _ in range(count):
        memo: dict[int, str] = {}
        strings: list[str] = ["?", "?"]
        last = "?"
        for opcode, argument, _position in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                module, name = str(argument).split(" ", 1)
                found.add(_renamed(module, name))
            elif opcode.name == "STACK_GLOBAL":
                found.add(_renamed(strings[-2], strings[-1]))
            elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[int(argument or 0)] = last
                continue
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = last
                continue
            elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
                strings.append(memo.get(int(argument or 0), "?"))
            elif isinstance(argument, str):
                strings.append(argument)
            last = strings[-1] if isinstance(argument, str) else "?"
    return found


def _renamed(module: str, name: str) -> Global:
    return NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))


def globals_of(path: Path) -> set[Global]:
    """Return (module, name) of every global that a file asks for: of all pickles in a zip, or of the file itself."""
    with reading(path):
        with path.open("rb") as file:
            start = file.read(4)
        if start == b"PK\x03\x04":
            pickles = [data for name, data in read_records(path).items() if name.endswith(".pkl")]
            return set().union(*(globals_in(data) for data in pickles))
        data = path.read_bytes()
        try:
            return globals_in(data, _LEGACY_PICKLES)
        except ValueError:  # a single pickle: the next ones are missing
            return globals_in(data)


def first_opcode(pickle: bytes, skip: int = 0) -> tuple[str, object]:
    """Return name and argument of the first opcode with content of the pickle after `skip` others."""
    stream = io.BytesIO(pickle)
    for _ in range(skip):
        for _unused in pickletools.genops(stream):
            pass
    for opcode, argument, _position in pickletools.genops(stream):
        if opcode.name not in ("PROTO", "FRAME", "MARK"):
            return opcode.name, argument
    return "STOP", None
