"""Runtimes that misbehave, added to the `run.pyz` of an artifact: what a launch meets is a real process that ends so."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekd.device.manifest import FileEntry, read_manifest, write_manifest

_SESSION = """
import os, signal, time
from ..errors import DeviceError
from .session import Session, TensorInfo

class Broken(Session):
    inputs = [TensorInfo("image", ("batch", 1, 8, 8), "float32")]
    outputs = [TensorInfo("logits", ("batch", 6), "float32")]
    def run(self, feeds):
        {what}
    def describe(self):
        return {{"runtime": "broken", "version": "1", "provider": "none", "threads": "1"}}

def version():
    return "1"

def open_session(path, threads):
    return Broken()
"""

MakeBroken = Callable[[str], Path]


@pytest.fixture
def make_broken(artifact: Path) -> MakeBroken:
    """Return a function that gives the artifact a runtime of its own, whose call does `what`."""

    def make(what: str) -> Path:
        with zipfile.ZipFile(artifact / "run.pyz", "a") as archive:
            archive.writestr("device/runtimes/broken.py", _SESSION.format(what=what))
        manifest = read_manifest(artifact)
        files = manifest.files | {"run.pyz": FileEntry.of(artifact / "run.pyz")}
        write_manifest(artifact, replace(manifest, runtime="broken", versions={}, files=files))
        return artifact

    return make
