"""What a teacher cache says about itself: whose answers it holds, in what form, and which checks they passed."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

import edgekd
from edgekd.errors import InputError, StageError
from edgekd.files import PARTIAL, digest, write_json
from edgekd.teachers.forms import AnyForm, Form, Full
from edgekd.teachers.teacher import Teacher

MANIFEST = "manifest.json"
OUTPUT, FEATURE = "output:", "feature:"  # how the names of fields begin
Manifest = dict[str, Any]
FORM: TypeAdapter[Form] = TypeAdapter(AnyForm)
_LOCK = ".lock"
_PATIENCE = 60  # seconds to wait for another process that writes
_ENTRIES = {"teacher": dict, "preprocessing": str, "forms": dict, "fields": dict, "data": list, "dropped": list,
            "checks": list}  # fmt: skip


@dataclass(frozen=True)
class Forms:
    """The form of all outputs, of all features, and of single outputs and taps by name where they differ.

    Integers and masks without a form of their own are kept whole.
    """

    outputs: Form = field(default_factory=Full)
    features: Form = field(default_factory=Full)
    named: Mapping[str, Form] = field(default_factory=dict)

    def of(self, name: str, dtype: str) -> Form:
        """Return the form of a field; `dtype` is torch's name."""
        start = OUTPUT if name.startswith(OUTPUT) else FEATURE
        usual = self.outputs if start == OUTPUT else self.features
        return self.named.get(name.removeprefix(start), usual if "float" in dtype else Full())

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> "Forms":
        """Return the forms that `described` gave.

        Raises:
            StageError: it gave others.
        """
        try:
            named = {name: FORM.validate_python(form) for name, form in described["named"].items()}
            outputs, features = (FORM.validate_python(described[which]) for which in ("outputs", "features"))
            return cls(outputs, features, named)
        except (KeyError, AttributeError, ValidationError) as error:
            raise StageError("the forms in the cache's manifest are not known; delete the cache") from error

    def described(self) -> dict[str, Any]:
        """Return the forms as JSON."""
        named = {name: form.model_dump() for name, form in sorted(self.named.items())}
        return {"outputs": self.outputs.model_dump(), "features": self.features.model_dump(), "named": named}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a cache meanwhile.

    Raises:
        InputError: another process does not end.
    """
    try:
        with FileLock(folder / _LOCK, timeout=_PATIENCE):
            yield
    except Timeout as error:
        raise InputError(f"another process writes into {folder}; wait for it, or choose another folder") from error


def make_manifest(folder: Path, teacher: Teacher | None, preprocessing: str, forms: Forms) -> None:
    """Write the manifest of a new cache; the folder is locked.

    Raises:
        InputError: the folder holds something else, or there is no teacher to make a cache for.
    """
    if any(path.name != _LOCK and not path.name.startswith(PARTIAL) for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty and no teacher cache; choose another folder")
    if teacher is None:
        raise InputError(f"there is no teacher cache in {folder}, and no teacher to make one for")
    content = {
        "schema": 1,
        "teacher": {
            "name": teacher.name,
            "identity": teacher.identity,
            "licence": teacher.licence,
            "source": teacher.source,
        },
        "preprocessing": preprocessing,
        "forms": forms.described(),
        "versions": {"edgekd": edgekd.__version__, **{name: version(name) for name in ("numpy", "torch")}},
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "data": [],
        "fields": {},
        "checks": [],
        "dropped": [],
    }
    write_json(folder / MANIFEST, content)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a cache.

    Raises:
        StageError: it is damaged.
    """
    path = folder / MANIFEST
    try:
        content: Manifest = json.loads(path.read_text(encoding="utf-8"))
        if any(type(content[name]) is not kind for name, kind in _ENTRIES.items()):
            raise ValueError("an entry has another type")
        origin_of(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"{path} cannot be read ({error}); delete {folder} to have the teacher asked again") from error
    return content


def dropped_in(folder: Path) -> str | None:
    """Return the hash of which answers checks have dropped in the caches of a folder, None where there are none."""
    found = {}
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        dropped = read_manifest(path.parent)["dropped"]
        if dropped:
            found[path.parent.name] = dropped
    return digest(found) if found else None


def check_owner(folder: Path, manifest: Manifest, teacher: Teacher | None, preprocessing: str, forms: Forms) -> None:
    """Check that a cache holds answers of this teacher to samples prepared in this way, in these forms.

    Raises:
        InputError: it does not.
    """
    kept = manifest["teacher"]
    way_out = "give another folder, or delete this one"
    if teacher is not None and kept["identity"] != teacher.identity:
        raise InputError(
            f"the cache in {folder} holds answers of another teacher ({kept['name']}, hash {kept['identity'][:12]}; "
            f"this one is {teacher.name}, hash {teacher.identity[:12]}); {way_out}"
        )
    if manifest["preprocessing"] != preprocessing:
        raise InputError(f"the cache in {folder} holds answers to samples of another preprocessing; {way_out}")
    if manifest["forms"] != forms.described():
        raise InputError(
            f"the cache in {folder} holds answers in another form ({_named(manifest['forms'])}; "
            f"asked is {_named(forms.described())}); {way_out}"
        )


def origin_of(manifest: Manifest) -> str:
    """Return the hash of what all answers in a cache have in common."""
    return digest([manifest["teacher"]["identity"], manifest["preprocessing"]])


def _named(forms: Any) -> str:
    try:
        single = "".join(f", {name} {form['kind']}" for name, form in forms["named"].items())
        return f"outputs {_settings(forms['outputs'])}, features {_settings(forms['features'])}{single}"
    except (KeyError, TypeError, AttributeError):
        return "not readable"


def _settings(form: Mapping[str, Any]) -> str:
    return " ".join([str(form["kind"]), *(f"{name}={value}" for name, value in form.items() if name != "kind")])
