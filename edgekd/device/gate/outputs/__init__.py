"""What a gate's result is written as, beside the terminal: a file each."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import check_folder_of, write_atomically
from .benchmark_json import benchmark_json
from .github import annotations, append_summary
from .gitlab import openmetrics
from .junit import junit


@dataclass(frozen=True)
class Outputs:
    """Which outputs are asked for; `github` of itself where GitHub Actions runs this."""

    junit: Path | None = None
    gitlab_metrics: Path | None = None
    benchmark_json: Path | None = None
    github: bool = False

    def check(self) -> None:
        """Look for the folders before anything is measured.

        Raises:
            DeviceError: One does not exist.
        """
        for path in (self.junit, self.gitlab_metrics, self.benchmark_json):
            if path is not None:
                check_folder_of(path)

    def write(self, result: dict[str, Any]) -> list[str]:
        """Write the files; return the lines that GitHub reads from the standard output.

        Raises:
            DeviceError: A file cannot be written.
        """
        if self.junit is not None:
            write_atomically(self.junit, junit(result))
        if self.gitlab_metrics is not None:
            write_atomically(self.gitlab_metrics, openmetrics(result).encode("utf-8"))
        if self.benchmark_json is not None:
            write_atomically(self.benchmark_json, benchmark_json(result).encode("utf-8"))
        if os.environ.get("GITHUB_STEP_SUMMARY"):
            append_summary(result, Path(os.environ["GITHUB_STEP_SUMMARY"]))
        return annotations(result) if self.github or os.environ.get("GITHUB_ACTIONS") == "true" else []
