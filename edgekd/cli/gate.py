"""`edgekd gate`."""

import contextlib
from pathlib import Path
from typing import Any

import click

from edgekd.cli.gate_options import measuring_options, settings_of
from edgekd.cli.options import debug_option, json_option

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("gate")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--budget", multiple=True, metavar="FILE|FIGURE=LIMIT", help="budget.toml, or such as latency-p95=20ms. Repeatable."
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="The older artifact, run or ONNX file (timed in turns), or a .json of `edgekd baseline update`.",
)
@click.option(
    "--report", type=_FILE, help="The run's report.json, for accuracy-drop. Default: that of the run directory."
)
@click.option(
    "--confirm", type=click.IntRange(0, 20), default=2, show_default=True, help="Further rounds before it fails."
)
@click.option(
    "--shared/--dedicated", default=None, help="Whether other work shares this machine. Default: signs are looked for."
)
@measuring_options
@click.option("--junit", type=_FILE, help="Write JUnit XML.")
@click.option("--gitlab-metrics", type=_FILE, help="Write GitLab's metrics report (OpenMetrics).")
@click.option("--benchmark-json", type=_FILE, help="Write the JSON of github-action-benchmark.")
@click.option("--github", is_flag=True, help="Print GitHub's annotations. Of itself in GitHub Actions.")
@json_option
@debug_option
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Fail where ARTIFACT misses a budget or is slower than a baseline on this machine: an artifact folder, a run directory or an ONNX file.

    What does not pass is measured again, in fresh processes, before it fails. docs/gate.md has the figures and units.

    Exit codes: 0 pass, 1 missed, 2 bad usage or input, 3 not measured, not decided or interrupted, 4 the runtime is missing.
    """
    from edgekd.cli.failure import explain_failure
    from edgekd.device import streams
    from edgekd.device.errors import DeviceError
    from edgekd.device.gate.budget import files_of
    from edgekd.device.gate.outputs import Outputs
    from edgekd.device.gate.result import SCHEMA
    from edgekd.errors import InputError, device_errors_as
    from edgekd.report.console import print_json, say
    from edgekd.report.gate import show
    from edgekd.verbs.gate import gate

    outputs = Outputs(options["junit"], options["gitlab_metrics"], options["benchmark_json"], options["github"])
    with device_errors_as(InputError):
        given = (options["artifact"], options["baseline"], options["report"])
        outputs.check([*(one for one in given if one is not None), *files_of(options["budget"])])

    def annotate(lines: list[str]) -> None:
        for line in lines:
            streams.show(line, stderr=options["as_json"])

    try:
        result = gate(
            options["artifact"],
            options["budget"],
            settings_of(options, confirm=options["confirm"], shared=options["shared"]),
            baseline=options["baseline"],
            report=options["report"],
            runtime=options["runtime"],
            batch=options["batch"],
            shapes=options["shapes"],
            say=say,
        )
    except BrokenPipeError:  # nobody reads what it says while it works
        streams.drop_output()
        context.exit(3)
    except (Exception, KeyboardInterrupt) as error:
        said = explain_failure(error) if isinstance(error, Exception) else ("interrupted", 3)
        with contextlib.suppress(DeviceError, OSError):  # what went wrong first is what a person must read
            annotate(outputs.refuse(*said))
        raise
    with device_errors_as(InputError):
        annotations = outputs.write(result)
    if options["as_json"]:
        print_json({"schema": SCHEMA, **result})
    else:
        show(result)
    annotate(annotations)
    context.exit(result["exit_code"])
