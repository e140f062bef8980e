"""Where a training stands, on disk: a killed training goes on from its last whole epoch, bit for bit."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgekd.errors import StageError
from edgekd.files import PARTIAL


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds tensors and plain values only, written in one step."""

    path: Path | None

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state; the file before stays until the new one is whole."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{PARTIAL}{self.path.name}")
        with partial.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the state, or None where there is none. Nothing in the file is run.

        Raises:
            StageError: the file is damaged.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # the unpickler raises many kinds
            raise StageError(f"cannot read the checkpoint {self.path}: {error}; remove it, or --no-resume") from error
        return state

    def remove(self) -> None:
        """Remove the file, when the stage is stored."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
