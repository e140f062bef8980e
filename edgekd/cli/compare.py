"""`edgekd compare`."""

from pathlib import Path
from typing import Any

import click

from edgekd.cli.options import debug_option, json_option, time_limit_option, timing_options
from edgekd.cli.parsed_options import DURATION


@click.command("compare")
@click.argument("candidate", type=click.Path(path_type=Path))
@click.argument("baseline", type=click.Path(path_type=Path))
@click.option(
    "--duration",
    "duration_s",
    type=DURATION,
    default="10s",
    show_default=True,
    help="Of both together.",
)
@timing_options
@click.option("--baseline-runtime", metavar="NAME", help="BASELINE's, where it is not that of --runtime.")
@time_limit_option
@json_option
@debug_option
def command(candidate: Path, baseline: Path, as_json: bool, **options: Any) -> None:
    """Say whether CANDIDATE is faster than BASELINE, each an artifact folder, a run directory or an ONNX file.

    Ten processes time both in turns. Each gives a ratio of medians, of CPU times and of minima; shown is the median over the
    processes, with its 95 % interval. On a quiet machine the median decides; where other work disturbed it the CPU time, with several
    threads the minimum. Within 2 % of equal, or where two of them contradict each other, it is "not distinguishable".
    """
    from edgekd.device.compare import compare_text
    from edgekd.report.console import print_json, results, say
    from edgekd.verbs.compare import compare

    found = compare(candidate, baseline, say=say, **options)
    if as_json:
        print_json({"schema": 1, **found})
    else:
        results.print(compare_text(found, {"candidate": str(candidate), "baseline": str(baseline)}))
