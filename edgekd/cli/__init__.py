"""The command line: one file a command, imported when its command runs."""

import importlib
import sys
from typing import Any

import click

from edgekd.device import own_process, streams

# Name -> one line of help, here so that `edgekd --help` imports no command.
COMMANDS = {
    "init": "Write a commented recipe and the model's sidecar.",
    "plan": "Say what compress would do, what is missing, and how long it takes.",
    "compress": "Compress a model for a target, with measured evidence.",
    "bench": "Try prune, quantize and distill alone, together and in every order.",
    "prune": "Only remove channels.",
    "mask": "Only set the least weights to zero.",
    "distill": "Only train towards a teacher.",
    "quantize": "Only go to integers, or to half precision.",
    "rewrite": "Only compute the same with fewer or other operators.",
    "export": "Only write the target's format.",
    "inspect": "Show layers, parameters, MACs, prunable groups, and what targets refuse.",
    "eval": "Score a model, ONNX file or artifact on data.",
    "diagnose": "Say which layers of an int8 file lose accuracy or do not run in int8.",
    "verify": "Check an artifact: hashes, and outputs against the recorded ones.",
    "profile": "Measure latency and energy of an artifact or ONNX file on this machine.",
    "compare": "Say which of two artifacts or ONNX files is faster on this machine.",
    "report": "Write the report of a run as one HTML page.",
    "gate": "Fail where an artifact misses a budget or is slower than a baseline.",
    "baseline": "Keep the figures that later versions are compared with.",
    "predict": "Predict the latency on a board that is not at hand.",
    "calibrate": "Fit the predictor to latencies measured on your own board.",
    "methods": "List the distillation methods, and try them against each other.",
    "targets": "List, show, validate and make target profiles.",
    "runs": "List and clean run directories.",
    "doctor": "Say what this machine and installation can do.",
    "completion": "Print the shell completion for bash, zsh or fish.",
}
WORKING = (
    "compress",
    "bench",
    "prune",
    "mask",
    "distill",
    "quantize",
    "rewrite",
    "export",
)  # they keep a run directory


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return its `command`."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"edgekd.cli.{cmd_name}").command
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Show the nearest names for a mistyped command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            nearest = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        from edgekd import __version__

        click.echo(f"edgekd {__version__}")
        ctx.exit()


_HELP = """Make a trained PyTorch model small and fast enough for a device, and prove it.

\b
edgekd compress model.pt --target raspberry-pi-5
edgekd COMMAND --help   says what a command takes
"""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, help=_HELP)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def group() -> None:
    """Hold the commands."""


def main() -> None:
    """Run the command line; every error that a person can cause is one message and an exit code.

    Exit codes: 0 done and within budget, 1 the budget is missed, 2 bad usage or input, 3 a stage failed or a budget could
    not be decided (its figure is absent, or not distinguishable from the limit), 4 a required tool is missing.
    """
    streams.open_closed()
    own_process.end_as_interrupted()
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.exit(_run(arguments, debug=debug))


def _run(arguments: list[str], *, debug: bool) -> int:
    """Return the exit code of a command."""
    stdout = sys.stdout
    try:
        code = group.main(arguments, prog_name="edgekd", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort) as error:
        own_process.end_undisturbed()
        shown: BaseException = error
        message, code = "interrupted", 3
        if arguments and arguments[0] in WORKING:
            message += "; finished stages are kept, the same command goes on from there"
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        streams.drop_output()
        return 0
    except SystemExit as error:
        if sys.stdout is not stdout:  # click has wrapped it: its answer to a broken pipe, which it ends with 1
            return 0
        return error.code if isinstance(error.code, int) else 0
    except Exception as error:
        from edgekd.cli.failure import explain_failure

        shown = error
        message, code = explain_failure(error)
    if debug:
        import traceback

        traceback.print_exception(shown)
    click.echo(f"edgekd: {message}", err=True)
    return code
