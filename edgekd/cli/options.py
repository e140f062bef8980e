"""Options that several commands share, and the request they make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class TargetName(click.ParamType):
    """A target's name, completed by the shell."""

    name = "target"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Offer the names of all targets."""
        from click.shell_completion import CompletionItem

        from edgekd.target import target_files

        return [CompletionItem(name) for name in target_files() if name.startswith(incomplete)]


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add MODEL and what it takes to open it."""
    for decorate in (
        click.option(
            "--input", "inputs", multiple=True, metavar="[NAME:]SHAPE[:DTYPE]", help="An input, e.g. image:Nx3x224x224."
        ),
        click.option(
            "--model", "factory", metavar="PACKAGE.MODULE:FACTORY", help="Builds the network for a file of weights."
        ),
        click.option("--trust", multiple=True, metavar="PACKAGE", help="Layer classes of this package may be loaded."),
        click.argument("model", type=click.Path(path_type=Path)),
    ):
        function = decorate(function)
    return function


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add where the data come from and how answers are judged."""
    for decorate in (
        click.option("--metric", metavar="NAME|PACKAGE.MODULE:FUNCTION", help="Default: the task's own."),
        click.option(
            "--data", metavar="SOURCE", help="Image folder, .npz, set of calibration/, or package.module:function."
        ),
    ):
        function = decorate(function)
    return function


def work_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every working command takes: target, seed, device, output."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout."),
        click.option("--explain-cache", is_flag=True, help="Say why each stage was reused or made."),
        click.option(
            "--resume/--no-resume", default=True, show_default=True, help="Take finished stages from the run directory."
        ),
        click.option(
            "--threads", type=click.IntRange(1, 1024), help="For training and evaluation. Default: all cores."
        ),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
        click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Overrides the recipe's."),
        click.option("--runtime", help="One of the target's runtimes. Default: its own choice."),
        click.option(
            "-o", "--output", type=click.Path(path_type=Path), help="Run directory. Default: edgekd-runs/MODEL-TARGET."
        ),
        click.option("--teacher", type=click.Path(path_type=Path), help="Default: the model before it was compressed."),
        click.option(
            "-t",
            "--target",
            "targets",
            type=TargetName(),
            multiple=True,
            required=True,
            help="`edgekd targets list`; several share the training.",
        ),
    ):
        function = decorate(function)
    return function


def debug_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --debug, which `main` takes off the command line before click sees it."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback for an error.")(function)


def make_request(options: dict[str, Any], recipe: Any, budget: Any = None, *, arms: bool = False) -> Any:
    """Return the `Request` that the options of a working command make."""
    from edgekd.models.signature import parse_inputs
    from edgekd.models.source import Opening
    from edgekd.report.console import progress, say
    from edgekd.request import Request

    return Request(
        model=options["model"],
        targets=options["targets"],
        data=options["data"],
        recipe=recipe,
        output=options["output"],
        runtime=options["runtime"],
        metric=options["metric"],
        seed=options["seed"],
        device=options["device"],
        threads=options["threads"],
        teacher=options["teacher"],
        opening=Opening(tuple(options["trust"]), options["factory"], parse_inputs(options["inputs"])),
        budget=budget,
        resume=options["resume"],
        arms=arms,
        say=say,
        explain=say if options["explain_cache"] else (lambda message: None),
        progress=progress,
    )
