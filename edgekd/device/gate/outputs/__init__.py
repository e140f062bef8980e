"""What a gate's result is written as, beside the terminal: a file each."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DeviceError
from ...files import check_place_of, write_atomically
from ...manifest import MANIFEST_NAME, refuse_own_file
from .benchmark_json import benchmark_json
from .github import annotations, append_summary, error, markdown, markdown_of_error
from .gitlab import openmetrics, openmetrics_of_error
from .junit import junit, junit_of_error

_REPORTS = (".xml", ".txt", ".prom")  # what an earlier gate may have left in a run directory


@dataclass(frozen=True)
class Outputs:
    """Which outputs are asked for; `github` of itself where GitHub Actions runs this."""

    junit: Path | None = None
    gitlab_metrics: Path | None = None
    benchmark_json: Path | None = None
    github: bool = False

    def check(self, inputs: Sequence[Path]) -> None:
        """Look at the paths before anything is measured.

        Args:
            inputs: Files and folders that the gate reads; none of them is written to.

        Raises:
            DeviceError: A folder does not exist, two outputs have one path, or one is an input.
        """
        read = {path.resolve() for path in inputs}
        options = {
            "--junit": self.junit,
            "--gitlab-metrics": self.gitlab_metrics,
            "--benchmark-json": self.benchmark_json,
        }
        taken: dict[Path, str] = {}
        for option, path in options.items():
            if path is None:
                continue
            check_place_of(path)
            other = taken.setdefault(path.resolve(), option)
            if other != option:
                raise DeviceError(f"{other} and {option} would both write {path}: give each its own file")
            for folder in inputs:
                if (folder / MANIFEST_NAME).is_file():
                    refuse_own_file(path, folder)
            own = path.resolve()
            if own in read or (path.exists() and path.suffix not in _REPORTS and read & set(own.parents)):
                raise DeviceError(f"{option} would overwrite {path}, which belongs to what is gated: give another file")

    def write(self, result: dict[str, Any]) -> list[str]:
        """Write the files; return the lines that GitHub reads from the standard output.

        Raises:
            DeviceError: A file cannot be written.
        """
        if self.junit is not None:
            write_atomically(self.junit, junit(result))
        if self.gitlab_metrics is not None:
            write_atomically(self.gitlab_metrics, openmetrics(result).encode("utf-8", "backslashreplace"))
        if self.benchmark_json is not None:
            write_atomically(self.benchmark_json, benchmark_json(result).encode("utf-8", "backslashreplace"))
        return self._to_github(markdown(result), annotations(result))

    def refuse(self, message: str, exit_code: int) -> list[str]:
        """Write the message where there is no result, so that a report which is only read does not look as if all were well.

        The file of figures for github-action-benchmark holds none.

        Returns:
            The lines that GitHub reads from the standard output.

        Raises:
            DeviceError: A file cannot be written.
        """
        if self.junit is not None:
            write_atomically(self.junit, junit_of_error(message))
        if self.gitlab_metrics is not None:
            write_atomically(self.gitlab_metrics, openmetrics_of_error(exit_code).encode("utf-8"))
        if self.benchmark_json is not None:
            write_atomically(self.benchmark_json, b"[]\n")
        return self._to_github(markdown_of_error(message), [error("edgekd gate", message)])

    def _to_github(self, page: str, lines: list[str]) -> list[str]:
        if os.environ.get("GITHUB_STEP_SUMMARY"):
            append_summary(page, Path(os.environ["GITHUB_STEP_SUMMARY"]))
        return lines if self.github or os.environ.get("GITHUB_ACTIONS") == "true" else []
