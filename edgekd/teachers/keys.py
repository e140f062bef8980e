"""What an answer is found by: the hash of teacher, preprocessing, sample and augmentation."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.data import Part
from edgekd.errors import InputError
from edgekd.files import digest
from edgekd.models.signature import Signature

Keys = NDArray[np.bytes_]  # (N,), 32 bytes each
_SIZE = 32


def sample_digests(part: Part, names: Sequence[str] | None = None) -> Keys:
    """Return the hash of every sample's content before preprocessing, (N,).

    `names` are the arrays that a teacher takes, among the data's inputs and extras; None: the network's inputs.
    """
    names = [spec.name for spec in part.signature.inputs] if names is None else names
    raw = {**part.dataset.extras, **part.dataset.inputs}
    missing = [name for name in names if name not in raw]
    if missing:
        raise InputError(f"{part.dataset.origin} has no {', '.join(missing)}; it has {', '.join(raw)}")
    head = "".join(f"{name} {raw[name].dtype} {raw[name].shape[1:]};" for name in names).encode()
    made = []
    for index in part.indices:
        sha = hashlib.sha256(head)
        for name in names:
            sha.update(raw[name][index].tobytes())
        made.append(sha.digest())
    return as_keys(made)


def preprocessing_digest(signature: Signature, **further: Any) -> str:
    """Return the hash of what is done to a sample before the teacher sees it.

    `further` is anything else that decides it, as JSON: how the fixed augmentations are made, and their seed.
    """
    inputs = [spec.model_dump(mode="json") for spec in signature.inputs]
    preprocessing = signature.preprocessing.model_dump(mode="json") if signature.preprocessing else None
    return digest([inputs, preprocessing, further])


def entry_keys(teacher: str, preprocessing: str, samples: Keys, variant: int) -> Keys:
    """Return the keys of the answers to these samples under one augmentation; 0 is none."""
    head, content, made = hashlib.sha256(f"{teacher} {preprocessing} {variant} ".encode()), samples.tobytes(), []
    for start in range(0, len(content), _SIZE):
        sha = head.copy()
        sha.update(content[start : start + _SIZE])
        made.append(sha.digest())
    return as_keys(made)


def as_keys(digests: Sequence[bytes]) -> Keys:
    """Return digests of 32 bytes as an array that numpy can sort."""
    return np.frombuffer(b"".join(digests), f"S{_SIZE}")


def hexadecimal(keys: Keys) -> list[str]:
    """Return keys as text."""
    content = keys.tobytes().hex()
    return [content[start : start + 2 * _SIZE] for start in range(0, len(content), 2 * _SIZE)]


def find(keys: Keys, wanted: Keys) -> NDArray[np.intp]:
    """Return where in `keys` each wanted one stands first, -1 where it does not."""
    if not len(keys):
        return np.full(len(wanted), -1, np.intp)
    order = np.argsort(keys, kind="stable")
    places = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
    found = order[places]
    return np.where(keys[found] == wanted, found, -1)
