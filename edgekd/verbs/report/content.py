"""What a page is made of, gathered from a run directory and from what other commands measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import edgekd
from edgekd import host
from edgekd.device import profiler
from edgekd.device.launches.subject import subject_of
from edgekd.device.manifest import MANIFEST_NAME, read_manifest
from edgekd.device.profile import ProfileSettings
from edgekd.errors import EdgekdError, InputError, device_errors_as
from edgekd.files import sha256
from edgekd.models.stored_weights import StoredWeights
from edgekd.run import onnx_of_stage, stage_folder
from edgekd.verbs.artifact_path import artifact_folders
from edgekd.verbs.report.evidence import Evidence, Inspected, LayerNoise, LayerTimes, Profile, read_evidence
from edgekd.verbs.report.reading import checked, read_object
from edgekd.verbs.report.run_report import RunReport
from edgekd.verbs.runs import BENCH_REPORT, REPORT, view

MODEL = ".onnx"  # how the name of an artifact's model ends
_LAYERS_ALONE = ProfileSettings(duration_s=0.1, sensor="none", counter="none", layers=True)  # as far as a profile can


@dataclass(frozen=True)
class FileContent:
    """What the file of a stage keeps: its size, and its weights by layer and element type; or why that is not known."""

    stage: str
    bytes: int | None = None
    weights: tuple[StoredWeights, ...] = ()
    absent: str | None = None


@dataclass(frozen=True)
class TimedLayers:
    """Where the time of a call goes, and on what it was measured; or why that is not known."""

    on: str = ""
    times: LayerTimes | None = None
    absent: str | None = None


@dataclass
class TargetContent:
    """All that is known of one target's artifact; `raw` is the report as its file has it."""

    report: RunReport
    raw: dict[str, Any]
    files: tuple[FileContent, ...]
    layers: TimedLayers
    profiles: list[Profile] = field(default_factory=list)
    noise: LayerNoise | None = None
    channels: Inspected | None = None

    @property
    def model_sha256(self) -> set[str]:
        """Return the hash of the artifact's model, without those of the files beside it."""
        return {one.sha256 for name, one in self.report.artifact.items() if name.endswith(MODEL)}


@dataclass(frozen=True)
class Content:
    """All that a page shows, a target each."""

    targets: tuple[TargetContent, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, schema 1."""
        return {"schema": 1, "edgekd": edgekd.__version__, "targets": [_plain(one) for one in self.targets]}


def _plain(target: TargetContent) -> dict[str, Any]:
    layers = target.layers
    times = None if layers.times is None else layers.times.model_dump(mode="json")
    return {
        "report": target.raw,
        "files": [{**asdict(one), "weights": [asdict(part) for part in one.weights]} for one in target.files],
        "layers": {"on": layers.on, "times": times, "absent": layers.absent},
        "profiles": [one.model_dump(mode="json") for one in target.profiles],
        "diagnosis": None if target.noise is None else target.noise.model_dump(mode="json"),
        "sensitivity": None if target.channels is None else target.channels.model_dump(mode="json"),
    }


def gather(run: Path, evidence: Sequence[Path] = (), *, layers: bool = True) -> Content:
    """Return what is known of a finished run.

    Args:
        run: its directory.
        evidence: files with the output of `profile`, `diagnose` or `inspect --sensitivity` in JSON.
        layers: measure what single layers take, where no profile tells it and the artifact runs here.

    Raises:
        InputError: it is no finished run, or a file of evidence is about another model.
    """
    raw = _reports(run)
    read = [read_evidence(path) for path in evidence]
    targets = tuple(_target(run, one, f"{run / REPORT}") for one in raw)
    for path, one in zip(evidence, read, strict=True):
        _add(targets, one, path)
    for target in targets:
        target.layers = _layers(run, target, measure=layers)
    return Content(targets)


def _reports(run: Path) -> list[dict[str, Any]]:
    """Return the reports of a run, one a target."""
    if not run.exists():
        raise InputError(f"{run} does not exist; name a run directory (`edgekd runs list` shows them)")
    if run.is_file():
        raise InputError(f"{run} is a file; name the run directory, and files of other commands behind --with")
    if not (run / REPORT).is_file():
        raise InputError(f"{run} holds no {REPORT}: {_why_no_report(run)}")
    content = read_object(run / REPORT)
    reports = content.get("targets", [content])
    if not isinstance(reports, list) or not reports or not all(isinstance(one, dict) for one in reports):
        raise InputError(f"{run / REPORT}: targets: a list of reports is needed")
    return reports


def _why_no_report(run: Path) -> str:
    if (run / BENCH_REPORT).is_file():
        return "it is the run of a bench, whose page is bench.md"
    if (run / MANIFEST_NAME).is_file():
        return "it is an artifact folder; name the run directory around it"
    state = view(run)
    if state.model is None and not state.targets:
        return "it is no run directory (`edgekd runs list` shows them)"
    return {
        "at work": "the run is still at work",
        "finished": "the command that made it writes one",
        "not finished": "the run has not finished; the same command goes on where it was",
    }[state.state]


def _target(run: Path, raw: dict[str, Any], where: str) -> TargetContent:
    report = checked(RunReport, raw, where)
    stored = {stage.name: onnx_of_stage(stage_folder(run, stage.name, stage.key)) for stage in report.stages}
    wanted = {stage.name: stage.sha256 for stage in report.stages}
    exported = [entry.sha256 for name, entry in report.artifact.items() if name.endswith(MODEL)]
    if exported and exported[0] not in wanted.values():
        wanted["exported"] = exported[0]
    delivered = [file for folder in artifact_folders(run) for file in sorted(folder.glob(f"*{MODEL}"))]
    files = [_file_of(name, digest, [stored.get(name), *delivered]) for name, digest in wanted.items()]
    return TargetContent(report, raw, tuple(files), TimedLayers())


def _file_of(name: str, wanted: str, candidates: Sequence[Path | None]) -> FileContent:
    """Look into the first of these files that is the one which the report speaks of."""
    from edgekd.models.loading import load_onnx
    from edgekd.models.stored_weights import stored_weights

    path = next((one for one in candidates if one is not None and sha256(one) == wanted), None)
    if path is None:
        return FileContent(
            name, absent="its file is no longer in the run; the command that made the run makes it again"
        )
    try:
        return FileContent(name, path.stat().st_size, tuple(stored_weights(load_onnx(path))))
    except EdgekdError as error:
        return FileContent(name, path.stat().st_size, absent=str(error))


def _add(targets: Sequence[TargetContent], found: Evidence, path: Path) -> None:
    """Put what another command told to the targets whose model it is about.

    Raises:
        InputError: it is about none of them.
    """
    if isinstance(found, Inspected):
        for target in targets:
            target.channels = found
        return
    digest = found.artifact.sha256 if isinstance(found, Profile) else found.sha256
    about = [target for target in targets if digest in target.model_sha256]
    if not about:
        raise InputError(
            f"{path} is about another model: the model of this run's artifact does not have the hash {digest}"
        )
    for target in about:
        if isinstance(found, Profile):
            if found not in target.profiles:  # the same file may be named twice
                target.profiles.append(found)
        else:
            target.noise = found


def _layers(run: Path, target: TargetContent, *, measure: bool) -> TimedLayers:
    """Return the times of a profile that was given, else those measured here."""
    for profile in target.profiles:
        if profile.layers is not None:
            session, machine = profile.session, profile.before
            threads = f"{session.threads} thread{'' if session.threads == '1' else 's'}"
            return TimedLayers(f"{session.runtime} {session.version}, {machine.title}, {threads}", profile.layers)
    if not measure:
        return TimedLayers(absent="not measured: --no-layers")
    try:
        return _measured_layers(run, target.report)
    except EdgekdError as error:
        return TimedLayers(absent=f"not measured: {error}")


@device_errors_as(InputError)
def _measured_layers(run: Path, report: RunReport) -> TimedLayers:
    machine = host.this_machine()
    hashes = {name: entry.sha256 for name, entry in report.artifact.items()}
    for folder in artifact_folders(run):
        manifest = read_manifest(folder)
        if {name: entry.sha256 for name, entry in manifest.files.items()} == hashes:
            subject = subject_of(folder)
            found = profiler.profile(subject, _LAYERS_ALONE)
            if found["layers"] is None:
                raise InputError(found["layers_absent"])
            times = found["layers"]
            on = f"{host.runtime_title(subject.runtime)}, {host.describe(machine)}, 1 thread"
            return TimedLayers(on, checked(LayerTimes, times, "the runtime's profile"))
    raise InputError("the artifact that the report speaks of is no longer in the run")
