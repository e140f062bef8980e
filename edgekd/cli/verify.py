"""`edgekd verify`."""

from pathlib import Path

import click

from edgekd.cli.options import debug_option, json_option


@click.command("verify")
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
@debug_option
def command(artifact: Path, as_json: bool) -> None:
    """Check ARTIFACT, an artifact folder or run directory: hashes, versions, and outputs against the recorded ones.

    Ends with 3 when a check fails.
    """
    from edgekd.device.commands import verify
    from edgekd.device.errors import CheckFailed
    from edgekd.device.printing import verify_failure, verify_text
    from edgekd.report.console import print_json, results
    from edgekd.verbs.artifact_path import artifact_folder

    found = verify(artifact_folder(artifact))
    if as_json:
        print_json({"schema": 1, **found})
    else:
        results.print(verify_text(found))
    if not found["passed"]:
        raise CheckFailed(verify_failure(found))
