"""The command line of `run.pyz`: `python run.pyz run|verify|profile|compare|gate|baseline`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .durations import LIMIT_S, seconds
from .errors import CheckFailed, DeviceError, RuntimeMissing
from .files import check_place_of, write_atomically
from .frame_size import frame_size
from .gate.command import add_parsers, execute
from .own_process import end_as_interrupted, end_undisturbed
from .shapes import named_shape
from .streams import drop_output, open_closed, show

_SENSORS = "of energy: auto, none, ina3221, tegrastats, pi5-pmic, rapl, nvml, nvml:NUMBER, speck or meter:FILE"  # the module needs numpy


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code.

    0 done, 1 a budget is missed, 2 bad input, 3 a check failed, a figure is absent or it was interrupted, 4 something is not
    installed.
    """
    open_closed()
    end_as_interrupted()
    options = _parser().parse_args(arguments)
    try:
        return _execute(options)
    except BrokenPipeError:  # nobody reads what it says while it works
        drop_output()
        return CheckFailed.exit_code
    except DeviceError as error:
        if options.debug:
            raise
        message, code = str(error), error.exit_code
    except OSError as error:
        if options.debug:
            raise
        drop_output()
        message, code = (
            f"{error.filename or 'the result cannot be written'}: {error.strerror or error}",
            CheckFailed.exit_code,
        )
    except MemoryError as error:
        if options.debug:
            raise
        message, code = f"out of memory: {error}", CheckFailed.exit_code
    except KeyboardInterrupt:
        end_undisturbed()
        print("interrupted", file=sys.stderr)
        return CheckFailed.exit_code
    print(f"error: {message}", file=sys.stderr)
    return code


def _execute(options: argparse.Namespace) -> int:
    try:
        from . import commands, printing  # numpy is needed from here on
        from .compare import compare, compare_text
        from .energy import require_energy
        from .imx500 import PACKED, profile_camera
        from .launches.subject import subject_of
        from .manifest import refuse_own_file
        from .profile import ProfileSettings
        from .profiler import profile
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise RuntimeMissing("numpy is not installed: pip install numpy") from error
    folder: Path = options.artifact or _artifact_folder()
    code = 0
    output: Path | None = getattr(options, "output", None)
    if output is not None:
        check_place_of(output)
        if folder.is_dir():  # the camera's network is a file
            refuse_own_file(output, folder)
    if options.command == "run":
        result = commands.run(folder, options.input, options.output, options.time_limit)
        text = printing.run_text(result)
    elif options.command == "verify":
        result = commands.verify(folder, options.time_limit)
        text = printing.verify_text(result)
    elif options.command in ("gate", "baseline"):
        result, text, code = execute(options, folder)
    elif options.command == "compare":
        other = options.runtime if options.baseline_runtime is None else options.baseline_runtime
        result = compare(
            subject_of(folder, options.batch, options.runtime, options.shape),
            subject_of(options.baseline, options.batch, other, options.shape),
            duration_s=options.duration,
            threads=options.threads,
            limit_s=options.time_limit,
            say=_say,
        )
        text = compare_text(result, {"candidate": str(folder), "baseline": str(options.baseline)})
    else:
        settings = ProfileSettings(
            duration_s=options.duration,
            threads=options.threads,
            sensor=options.sensor,
            counter=options.instructions,
            frame=options.frame,
            throughput=options.throughput,
            layers=options.layers,
            sustained_s=options.sustained,
            limit_s=options.time_limit,
        )
        if folder.suffix == PACKED:
            result = profile_camera(folder, settings.duration_s)
        else:
            result = profile(subject_of(folder, options.batch, options.runtime, options.shape), settings, _say)
        text = printing.profile_text(result)
        if options.output is not None:
            write_atomically(options.output, (printing.as_json(result) + "\n").encode("utf-8"))
    _print(printing.as_json(result) if options.json else text)
    if options.command == "verify" and not result["passed"]:
        raise CheckFailed(printing.verify_failure(result))
    if options.command == "profile":
        require_energy(options.sensor, result)
    return code


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    # a label may not exist in the terminal's encoding
    show(text.encode(encoding, "backslashreplace").decode(encoding))


def _artifact_folder() -> Path:
    """Return the folder that holds run.pyz, or the current one where this does not run from a run.pyz."""
    from .manifest import MANIFEST_NAME  # numpy is needed

    archive = Path(__file__).parents[1]
    folder = archive.parent if archive.is_file() else Path.cwd()
    if not (folder / MANIFEST_NAME).exists():
        raise DeviceError(f"{folder} holds no {MANIFEST_NAME}: name the artifact folder with --artifact")
    return folder


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--artifact", type=Path, metavar="DIR", help="artifact folder (default: where run.pyz lies)")
    common.add_argument("--json", action="store_true", help="print JSON")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(prog="run.pyz", description="Run, check or measure this model on this machine.")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="{run,verify,profile,compare,gate,baseline}"
    )
    duration = _checked(seconds)
    limited = argparse.ArgumentParser(add_help=False)
    limited.add_argument(
        "--time-limit",
        type=duration,
        default=LIMIT_S,
        metavar="TIME",
        help="of the process that runs it, before it is ended (default: 10m)",
    )

    run = commands.add_parser("run", parents=[common, limited], help="run the model")
    run.add_argument("--input", type=Path, metavar="FILE", help=".npy or .npz (default: the self-check samples)")
    run.add_argument("--output", type=Path, metavar="FILE", help="write the output arrays to this .npz")

    verified = "check the files and that results are those of the host"
    commands.add_parser("verify", parents=[common, limited], help=verified)

    timing = argparse.ArgumentParser(add_help=False)
    timing.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the runtime (default: 1)")
    timing.add_argument("--batch", type=int, metavar="N", help="samples a call (default: the model's own, or 1)")
    timing.add_argument(
        "--shape",
        type=_checked(named_shape),
        action="append",
        default=[],
        metavar="[NAME=]SHAPE",
        help="of an input with free sizes, such as 1x3x224x224 (repeatable)",
    )
    timing.add_argument("--runtime", metavar="NAME", help="another runtime than the one that the artifact is for")

    session = argparse.ArgumentParser(add_help=False)
    session.add_argument("--sensor", default="auto", metavar="NAME", help=f"{_SENSORS} (default: auto)")
    session.add_argument(
        "--instructions",
        default="auto",
        metavar="NAME",
        help="counter: auto, none, perf, callgrind or clock (default: auto)",
    )

    profile = commands.add_parser(
        "profile", parents=[common, timing, session], help="measure latency, memory and energy"
    )
    limit = "of a process that measures, before it is ended (default: 10m and ten times as long as it measures)"
    profile.add_argument(
        "--duration", type=duration, default=10.0, metavar="TIME", help="longest, such as 10s or 1m (default: 10s)"
    )
    profile.add_argument("--sustained", type=duration, metavar="TIME", help="then run for so long, such as 10m")
    profile.add_argument(
        "--frame",
        type=_checked(frame_size),
        metavar="WxH",
        help="the camera's frame, such as 640x480 (default: the model's size)",
    )
    profile.add_argument("--throughput", action="store_true", help="measure larger batches, until they no longer pay")
    profile.add_argument("--layers", action="store_true", help="show what single layers take, by the runtime's profile")
    profile.add_argument("--output", type=Path, metavar="FILE", help="write the JSON to this file as well")
    profile.add_argument("--time-limit", type=duration, metavar="TIME", help=limit)

    compare = commands.add_parser(
        "compare", parents=[common, timing], help="say whether it is faster than another artifact"
    )
    compare.add_argument("baseline", type=Path, metavar="BASELINE", help="the other artifact's folder")
    compare.add_argument("--baseline-runtime", metavar="NAME", help="BASELINE's, where it is not that of --runtime")
    compare.add_argument(
        "--duration", type=duration, default=10.0, metavar="TIME", help="of both together (default: 10s)"
    )
    compare.add_argument("--time-limit", type=duration, metavar="TIME", help=limit)

    add_parsers(commands, [common, timing, session], duration)
    return parser


def _checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser whose errors reach the person as they are: argparse hides what a ValueError says."""

    def checked(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return checked


if __name__ == "__main__":
    raise SystemExit(main())
