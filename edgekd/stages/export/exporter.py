"""What an exporter is: a function that writes the device's file, with its description."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekd.models.signature import Signature
from edgekd.recipe import ExportSettings


@dataclass(frozen=True)
class Exporter:
    """`write(source ONNX, signature, settings, folder)` leaves one file in the folder and returns it.

    `requirements` are what the device needs for `run.pyz`, as pip writes them; `remains` is what is still to be done there.
    """

    description: str
    write: Callable[[Path, Signature, ExportSettings, Path], Path]
    requirements: dict[str, str]
    remains: str | None = None
