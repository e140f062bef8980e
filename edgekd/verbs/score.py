"""How good a model is on data: a network, an ONNX file or an artifact, scored alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekd.data import load_dataset
from edgekd.errors import InputError, device_errors_as
from edgekd.evaluate import judge_outputs
from edgekd.metrics import Metric, accuracy, choose_metric, decisions, fidelity_of
from edgekd.models.source import Opening, kept_data
from edgekd.recipe import DataSettings
from edgekd.verbs.subject import PartName, Subject, cut_of, dataset_of, judgeable, open_subject, part_of, run_of


@dataclass(frozen=True)
class ClassScore:
    """How one class fares: its samples, how many percent are recognized, and what it is taken for most otherwise."""

    label: str
    samples: int
    accuracy: float
    mistaken_for: str | None


@dataclass(frozen=True)
class FurtherScore:
    """The metric on the whole of a further data set; `difference` is its value minus the one on the model's own data."""

    name: str
    data: str
    value: float
    low: float | None
    high: float | None
    difference: float
    samples: int


@dataclass(frozen=True)
class Score:
    """A metric on one part of the data; `low` and `high` are the ends of a 95 % interval where one is known.

    `cut` says whose settings cut the data into parts. `out_of_domain` are the scores on further data sets.
    """

    model: str
    kind: str
    runs_in: str
    data: str
    part: str
    cut: str
    metric: str
    unit: str
    value: float
    low: float | None
    high: float | None
    samples: int
    classes: tuple[ClassScore, ...]
    out_of_domain: tuple[FurtherScore, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"schema": 1, **asdict(self)}


@device_errors_as(InputError)
def score(
    model: Path,
    data: str | None,
    *,
    opening: Opening,
    metric: str | None = None,
    part: PartName = "evaluation",
    reference: Path | None = None,
    also: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> Score:
    """Score a model file, ONNX file or artifact on data.

    Args:
        model: a file that `compress` takes, an artifact folder, or the run directory that holds it.
        data: as for `compress`; by default those of the run that the model lies in, else what its sidecar names.
        opening: how to open a model file.
        metric: by default the model's own.
        part: `evaluation` and `validation` are cut as the run did that made the model, or as `compress` does by default;
            `all` is everything there is.
        reference: another model, for metrics that compare outputs (agreement, sqnr, cosine).
        also: further data sets by the name that they are given, as for `data`; all of each is scored, with the same metric.
        threads: of the runtime; by default those that torch takes.

    Raises:
        InputError: the model or the data cannot be read or do not fit each other, or the metric lacks labels; of a
            further data set, the message names it.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    threads = threads or torch.get_num_threads()
    run = run_of(model)
    if data is None and run is not None:
        data = kept_data(run)
    subject = open_subject(model, data, opening, threads)
    cut, whose = cut_of(run)
    dataset = dataset_of(subject, data, cut)
    chosen = part_of(dataset, subject.signature, part, cut)
    fidelity = fidelity_of(subject.signature.task)
    wanted = metric or subject.signature.metric or (fidelity if reference is not None else None)
    if wanted is None and dataset.targets is None:
        raise InputError(
            f"{dataset.origin} has no labels, so nothing says what is right; "
            "give labelled data, or --reference MODEL to compare with its outputs"
        )
    chosen_metric = choose_metric(wanted, subject.signature.task, labelled=dataset.targets is not None)
    chosen = judgeable(chosen, chosen_metric)
    if chosen_metric.fidelity and reference is None:
        raise InputError(f"the metric {chosen_metric.name} compares with another model: give --reference MODEL")
    outputs = subject.run(chosen)
    expected, other = None, None
    if reference is not None:
        other = open_subject(reference, data, opening, threads)
        others = dataset_of(other, data, cut)
        if len(others) != len(dataset):
            raise InputError(
                f"model and reference read different data ({dataset.origin}; {others.origin}): give --data"
            )
        expected = other.run(part_of(others, other.signature, part, cut))
    value = judge_outputs(outputs, expected, chosen, chosen_metric)
    low, high = chosen_metric.interval(value, len(chosen))
    labels = subject.signature.labels or dataset.labels
    further = tuple(
        _further(name, source, subject, other, chosen_metric, labels, cut, value)
        for name, source in (also or {}).items()
    )
    return Score(
        model=subject.name,
        kind=subject.kind,
        runs_in=subject.runs_in,
        data=dataset.origin,
        part=part,
        cut="none" if part == "all" else whose,
        metric=chosen_metric.name,
        unit=chosen_metric.unit,
        value=value,
        low=low,
        high=high,
        samples=len(chosen),
        classes=tuple(_by_class(next(iter(outputs.values())), chosen.targets, labels))
        if chosen_metric.function is accuracy and chosen.targets is not None and subject.signature.task != "tokens"
        else (),
        out_of_domain=further,
    )


def _further(
    name: str,
    source: str,
    subject: Subject,
    reference: Subject | None,
    metric: Metric,
    labels: tuple[str, ...] | None,
    cut: DataSettings,
    value: float,
) -> FurtherScore:
    """Score all of a further data set, whose classes must be the model's.

    Raises:
        InputError: it does not fit; the message names it.
    """
    try:
        known = subject.signature.model_copy(update={"labels": labels})
        dataset = load_dataset(source, known, limit=cut.limit)
        if labels is not None and dataset.labels is not None and dataset.labels != labels:
            raise InputError(
                f"its classes are {_listed(dataset.labels)}, the model's {_listed(labels)}; "
                "they must be the same, in the same order"
            )
        if dataset.targets is None and not metric.fidelity and not (metric.own and known.task == "detection"):
            raise InputError(f"{dataset.origin} has no labels, and the metric {metric.name} needs them")
        part = judgeable(part_of(dataset, known, "all", cut), metric)
        expected = None
        if reference is not None:
            given = load_dataset(source, reference.signature.model_copy(update={"labels": labels}), limit=cut.limit)
            expected = reference.run(part_of(given, reference.signature, "all", cut))
        found = judge_outputs(subject.run(part), expected, part, metric)
    except InputError as error:
        raise InputError(f"the further data set {name}: {error}") from error
    low, high = metric.interval(found, len(part))
    return FurtherScore(name, dataset.origin, found, low, high, found - value, len(part))


def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")


def _by_class(outputs: NDArray[Any], targets: NDArray[Any], labels: tuple[str, ...] | None) -> list[ClassScore]:
    """Return how each class fares."""
    answers = decisions(outputs)

    def label(index: int) -> str:
        return labels[index] if labels is not None and 0 <= index < len(labels) else str(index)

    found = []
    for index in np.unique(targets).tolist():
        given = answers[targets == index]
        wrong, counts = np.unique(given[given != index], return_counts=True)
        most = label(int(wrong[counts.argmax()])) if len(wrong) else None
        found.append(ClassScore(label(index), len(given), float(100 * (given == index).mean()), most))
    return found
