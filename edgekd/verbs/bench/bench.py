"""Run the cells of the bench: all in one run directory, so that what they share is made once and a killed bench goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd import host, processes
from edgekd.context import Context
from edgekd.errors import EdgekdError, InputError, StageError, device_errors_as
from edgekd.files import digest, write_json
from edgekd.measure import scores_of, timings_of
from edgekd.pipeline import run_stages
from edgekd.recipe import ExportSettings
from edgekd.request import Prepared, Request, prepare
from edgekd.run import Run, code_version
from edgekd.stages.distill.stage import has_targets
from edgekd.state import OnnxForm
from edgekd.verbs.bench.cells import BASELINE, SHARES, Cell, Order, cells_of, name_of, own_order, split_epochs
from edgekd.verbs.bench.table import Measurement, Table, make_rows, reference_of
from edgekd.verbs.plan import Step, check_order, forward_seconds, steps_of
from edgekd.verbs.runs import BENCH_REPORT

EPOCHS, SEEDS = 10, 3


@dataclass(frozen=True)
class Planned:
    """A cell before any work: its steps in words, or the problem why it is left out."""

    cell: Cell
    steps: tuple[Step, ...]
    problem: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"name": self.cell.name, "steps": [vars(step) for step in self.steps], "problem": self.problem}


@dataclass(frozen=True)
class Bench:
    """A request, read and checked, with the cells that it asks for; the first seed is the request's or the recipe's."""

    prepared: Prepared
    context: Context
    cells: tuple[Cell, ...]
    epochs: int
    seeds: tuple[int, ...]

    def only(self, cell: Cell) -> Prepared:
        """Return what is prepared with the stages of one cell for its recipe."""
        recipe = self.prepared.recipe.model_copy(update={"stages": cell.stages, "export": ExportSettings()})
        return replace(self.prepared, recipe=recipe)

    def problems(self) -> dict[str, str]:
        """Return why cells are left out, by their names."""
        found = {cell.name: self._problem(cell) for cell in self.cells}
        return {name: problem for name, problem in found.items() if problem is not None}

    def _problem(self, cell: Cell) -> str | None:
        state = self.prepared.opened.state
        if cell.trained and isinstance(state.form, OnnxForm):
            return "an ONNX network can be quantized, but neither pruned nor trained"
        if cell.problem is not None:
            return cell.problem
        if cell.trained and not has_targets(state, self.context):
            return "it is trained on labels, and the data have none"
        try:
            check_order(state, self.only(cell).recipe, self.context)
        except InputError as error:
            return str(error)
        return None


def prepare_bench(
    request: Request, *, epochs: int = EPOCHS, seeds: int = SEEDS, orders: Sequence[Order] | None = None
) -> Bench:
    """Read and check everything a request names, before any work.

    Args:
        request: model, one target, data, recipe ...; the recipe's stages are the techniques. The directory is
            `edgekd-runs/<model>-<target>-bench` where none is asked for.
        epochs: of every trained cell.
        seeds: how many; they count up from the request's or the recipe's.
        orders: of all three techniques, to try beside the recipe's own; not set: all six.

    Raises:
        InputError: anything is wrong, or the target cannot be exported for.
    """
    if seeds < 1:
        raise InputError(f"--seeds {seeds}: one is the least")
    if len(set(request.targets)) != 1:
        raise InputError("the bench measures on one target; give one --target")
    if processes.count() > 1:
        raise InputError("the bench runs in one process; start it without torchrun")
    prepared = prepare(request, trains=True)
    (context,) = prepared.contexts
    usual = prepared.directory.with_name(f"{prepared.directory.name}-bench")
    prepared = replace(prepared, request=replace(request, output=request.output or usual))
    cells = cells_of(prepared.recipe, prepared.opened.state.signature, epochs, orders)
    first = prepared.recipe.seed
    bench = Bench(prepared, context, tuple(cells), epochs, tuple(range(first, first + seeds)))
    check_order(prepared.opened.state, bench.only(cells[0]).recipe, context)
    return bench


def preview(bench: Bench) -> tuple[list[Planned], float | None]:
    """Return what would run, and roughly the seconds of it all, None where the model's speed is not known.

    What cells share counts once, what is stored already counts as well.
    """
    state, problems = bench.prepared.opened.state, bench.problems()
    rate = None if isinstance(state.form, OnnxForm) else forward_seconds(state)
    found: list[Planned] = []
    seconds: dict[str, float | None] = {}
    for cell in bench.cells:
        if cell.name in problems:
            found.append(Planned(cell, (), problems[cell.name]))
            continue
        steps = steps_of(bench.only(cell), bench.context, rate, [False] * len(cell.stages))
        found.append(Planned(cell, tuple(steps), None))
        runs = len(bench.seeds) if cell.trained else 1
        for count, step in enumerate(steps, 1):
            shared = digest([stage.model_dump(mode="json") for stage in cell.stages[:count]])
            seconds[shared] = None if step.seconds is None else runs * step.seconds
    known = [one for one in seconds.values() if one is not None]
    return found, sum(known) if len(known) == len(seconds) else None


@device_errors_as(StageError)
def run_bench(bench: Bench) -> Table:
    """Make all cells with all seeds, score and time them, and write `bench.json`; the same call goes on from there.

    A cell that fails is left out with the reason; the others go on.

    Raises:
        InputError: the directory cannot be written, or another run is at work in it.
        StageError: the network cannot be written or run as it is.
    """
    request, problems = bench.prepared.request, bench.problems()
    machine = host.this_machine()
    measured: dict[str, list[Measurement]] = {}
    disturbances: list[str] = []
    with Run.open(bench.prepared.directory, request.say, resume=request.resume, explain=request.explain) as run:
        run.describe(bench.prepared.opened.name, bench.prepared.opened.structure, [bench.context.target.name])
        for remark in bench.prepared.remarks:
            run.log(remark)
        for seed in bench.seeds:
            files = _make(bench, run, seed, problems)
            found, disturbed = _measure(bench, run, files, machine)
            for name, one in found.items():
                measured.setdefault(name, []).append(one)
            disturbances += [f"seed {seed}: {words}" for words in disturbed]
        own = name_of(own_order(bench.prepared.recipe))
        reference = reference_of(own, measured, problems)
        metric, threads = bench.context.metric, bench.context.runtime.threads
        table = Table(
            model=bench.prepared.opened.name,
            target=bench.context.target.name,
            data=bench.prepared.dataset.origin,
            samples=len(bench.context.parts.evaluation),
            metric=metric,
            epochs=split_epochs(bench.epochs, SHARES),
            seeds=bench.seeds,
            reference=reference,
            latency_on=f"ONNX Runtime, {host.describe(machine)}, {threads} thread{'s' if threads > 1 else ''}",
            on_target=host.is_target(bench.context.target, machine),
            disturbances=tuple(disturbances),
            rows=make_rows(bench.cells, measured, problems, reference, metric),
        )
        made_by = {"host": machine.to_dict(), "software": code_version()}
        write_json(bench.prepared.directory / BENCH_REPORT, {**table.to_json(), **made_by})
    return table


def _make(bench: Bench, run: Run, seed: int, problems: dict[str, str]) -> dict[str, Path]:
    """Return the file of every cell; the problems of those that fail are added."""
    files = {}
    for number, cell in enumerate(bench.cells, 1):
        if cell.name in problems:
            continue
        run.log(f"seed {seed}, cell {number} of {len(bench.cells)}: {cell.name}")
        own = seed if cell.trained else bench.seeds[0]
        context = replace(bench.context, seed=own, log=run.log)
        try:
            files[cell.name] = run_stages(run, bench.only(cell), context, only_last_file=True)[-1].file
        except EdgekdError as error:
            if cell.name == BASELINE:
                raise
            problems[cell.name] = f"failed with seed {seed}: {error}"
            run.log(f"{cell.name}: {problems[cell.name]}")
    return files


def _measure(
    bench: Bench, run: Run, files: Mapping[str, Path], machine: Any
) -> tuple[dict[str, Measurement], Sequence[str]]:
    """Score the files of one seed and time them in one interleaved session; return what disturbed the machine as well.

    The ms of a file are the baseline's p50 divided by how many times as fast it is: that ratio is paired, p50s wander.
    """
    context = replace(bench.context, log=run.log)
    scores = scores_of(run, context, dict(files))
    timed = timings_of(run, context, dict(files), bench.prepared.opened.state.signature, machine)
    baseline = timed["latency"][BASELINE]["p50_ms"]
    speedups = {name: timed["speedups"][name][BASELINE]["ratio"] for name in files}
    found = {
        name: Measurement(scores[name], path.stat().st_size / 1e6, baseline / speedups[name], speedups[name])
        for name, path in files.items()
    }
    return found, timed["disturbances"]
