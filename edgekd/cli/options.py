"""Options that several commands share, and the request they make."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from edgekd.cli.parsed_options import DURATION, SHAPE

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class TargetName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A target's name, completed by the shell."""

    name = "target"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Offer the names of all targets, and files for a text that is none."""
        from click.shell_completion import CompletionItem

        from edgekd.target import target_files

        names = [CompletionItem(name) for name in target_files() if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]


def with_options(function: Callable[..., Any], decorators: Iterable[Decorator]) -> Callable[..., Any]:
    """Apply decorators so that help shows them in the order in which they are written."""
    for decorate in reversed(list(decorators)):
        function = decorate(function)
    return function


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add MODEL and what it takes to open it."""
    return with_options(
        function,
        (
            click.argument("model", type=click.Path(path_type=Path)),
            click.option(
                "--trust", multiple=True, metavar="PACKAGE", help="Layer classes of this package may be loaded."
            ),
            click.option(
                "--model", "factory", metavar="PACKAGE.MODULE:FACTORY", help="Builds the network for a file of weights."
            ),
            click.option(
                "--input",
                "inputs",
                multiple=True,
                metavar="[NAME:]SHAPE[:DTYPE]",
                help="An input, e.g. image:Nx3x224x224.",
            ),
        ),
    )


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add where the data come from and how answers are judged."""
    return with_options(
        function,
        (
            click.option(
                "--data",
                metavar="SOURCE",
                help="Image folder, .npz, set of calibration/, or package.module:function. Default: the sidecar's.",
            ),
            click.option("--metric", metavar="NAME|PACKAGE.MODULE:FUNCTION", help="Default: the task's own."),
        ),
    )


def work_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every working command takes: target, seed, device, output."""
    return with_options(
        function,
        (
            click.option(
                "-t",
                "--target",
                "targets",
                type=TargetName(),
                multiple=True,
                required=True,
                help="`edgekd targets list`; several share the training.",
            ),
            click.option(
                "--teacher",
                multiple=True,
                metavar="FILE|FOLDER|PACKAGE.MODULE:FUNCTION",
                help="Repeatable. Default: the model before it was compressed.",
            ),
            click.option(
                "--teacher-model",
                "teacher_factory",
                metavar="PACKAGE.MODULE:FACTORY",
                help="Builds the teacher for a file of weights.",
            ),
            click.option(
                "--teacher-cache",
                type=click.Path(path_type=Path, file_okay=False),
                help="Where answers of teachers are kept. Default: in the run directory.",
            ),
            click.option(
                "-o",
                "--output",
                type=click.Path(path_type=Path, file_okay=False),
                help="Run directory. Default: edgekd-runs/MODEL-TARGET.",
            ),
            click.option("--runtime", help="One of the target's runtimes. Default: its own choice."),
            click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Overrides the recipe's."),
            click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
            click.option(
                "--threads", type=click.IntRange(1, 1024), help="For training and evaluation. Default: all cores."
            ),
            click.option(
                "--resume/--no-resume",
                default=True,
                show_default=True,
                help="Take finished stages from the run directory.",
            ),
            click.option("--explain-cache", is_flag=True, help="Say why each stage was reused or made."),
            json_option,
        ),
    )


recipe_option = click.option(
    "--recipe", metavar="FILE|NAME", help="Recipe file or shipped recipe. Default: the target's."
)


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the recipe and the budget."""
    more_than_none = click.FloatRange(min=0, min_open=True)
    return with_options(
        function,
        (
            recipe_option,
            click.option(
                "--accuracy-drop", type=float, metavar="POINTS", help="Budget: the metric may get this much worse."
            ),
            click.option(
                "--size", "size_kb", type=more_than_none, metavar="KB", help="Budget: size of the model file."
            ),
            click.option(
                "--latency", "latency_ms", type=more_than_none, metavar="MS", help="Budget: p50 on the target itself."
            ),
            click.option(
                "--energy",
                "energy_mj",
                type=more_than_none,
                metavar="MJ",
                help="Budget: of one inference on the target itself.",
            ),
            click.option(
                "--memory",
                "memory_mb",
                type=more_than_none,
                metavar="MB",
                help="Budget: peak memory on the target itself.",
            ),
        ),
    )


def timing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add how a model is opened and called to be measured."""
    return with_options(
        function,
        (
            click.option(
                "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Of the runtime."
            ),
            click.option("--batch", type=click.IntRange(1), help="Samples a call. Default: the model's own, or 1."),
            click.option(
                "--shape",
                "shapes",
                type=SHAPE,
                multiple=True,
                help="Of an input with free sizes, such as 1x3x224x224, or image=1x3x224x224. Repeatable.",
            ),
            click.option(
                "--runtime",
                metavar="NAME",
                help="Another one than the artifact is for; an ONNX file's is onnxruntime.",
            ),
        ),
    )


def session_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add how a model is opened to be measured, and what beside the clock measures it."""
    return with_options(
        function,
        (
            timing_options,
            click.option(
                "--sensor",
                default="auto",
                show_default=True,
                metavar="NAME",
                help="Of energy: auto, none, ina3221, tegrastats, pi5-pmic, rapl, nvml, nvml:NUMBER, speck or meter:FILE.",
            ),
            click.option(
                "--instructions",
                "counter",
                default="auto",
                show_default=True,
                metavar="NAME",
                help="Counter: auto, none, perf, callgrind (Valgrind, minutes) or clock (QEMU's -icount shift=0).",
            ),
        ),
    )


time_limit_option = click.option(
    "--time-limit",
    "limit_s",
    type=DURATION,
    help="Of a process that measures, before it is ended. Default: 10m and ten times as long as it measures.",
)


def sensitivity_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --sensitivity and on how many samples."""
    return with_options(
        function,
        (
            click.option(
                "--sensitivity", is_flag=True, help="Cut half of every prunable group alone and say what it costs."
            ),
            click.option(
                "--samples",
                type=click.IntRange(1),
                default=256,
                show_default=True,
                help="Of the validation part, for --sensitivity.",
            ),
        ),
    )


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")(
        function
    )


def debug_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --debug, which `main` takes off the command line before click sees it."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback for an error.")(function)


def opening_of(options: dict[str, Any]) -> Any:
    """Return the `Opening` that `model_options` make."""
    from edgekd.models.signature import parse_inputs
    from edgekd.models.source import Opening

    return Opening(tuple(options["trust"]), options["factory"], parse_inputs(options["inputs"]))


def budget_of(options: dict[str, Any]) -> Any:
    """Return the `Budget` that `recipe_options` make, or None where no limit was given."""
    from edgekd.budget import Budget

    given = {name: options.get(name) for name in ("accuracy_drop", "size_kb", "latency_ms", "energy_mj", "memory_mb")}
    limits = {name: value for name, value in given.items() if value is not None}
    return Budget(**limits) if limits else None


def make_request(options: dict[str, Any], recipe: Any, *, arms: bool = False) -> Any:
    """Return the `Request` that the options of a working command make.

    Raises:
        InputError: --device cuda and no such device.
    """
    import torch

    from edgekd import processes
    from edgekd.errors import InputError
    from edgekd.report.console import progress, say
    from edgekd.request import Request, silent

    if options["device"] == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "--device cuda: torch finds no CUDA device here (`edgekd doctor` tells more); use --device cpu"
        )
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
        teacher=options["teacher"] or None,
        teacher_factory=options["teacher_factory"],
        teacher_cache=options["teacher_cache"],
        opening=opening_of(options),
        budget=budget_of(options),
        resume=options["resume"],
        arms=arms,
        say=say,
        explain=say if options["explain_cache"] else (lambda message: None),
        progress=progress if processes.leads() else silent,
    )
