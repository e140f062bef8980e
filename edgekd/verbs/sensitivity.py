"""What pruning may cut of a model file, and what every group is worth on its validation data."""

from collections.abc import Sequence
from pathlib import Path

from edgekd.context import Progress
from edgekd.data import load_dataset, split
from edgekd.errors import InputError
from edgekd.evaluate import deciding_metric
from edgekd.metrics import choose_metric
from edgekd.models.source import Opening, kept_data, open_model, sidecar_data, sidecar_of
from edgekd.recipe import DataSettings
from edgekd.request import signature_of_data
from edgekd.stages.prune.groups import prunable_groups
from edgekd.stages.prune.sensitivity import Sensitivity, sensitivity
from edgekd.stages.prune.settings import PruneSettings
from edgekd.state import OnnxForm
from edgekd.target import Target
from edgekd.verbs.subject import judgeable


def sensitivity_of(
    model: Path,
    opening: Opening,
    targets: Sequence[Target],
    data: str | None,
    metric: str | None,
    samples: int,
    progress: Progress,
) -> Sensitivity:
    """Cut every group of a model alone, by magnitude, and judge it on samples of the validation part.

    Args:
        model: a model file, or a run directory, whose last torch network is taken.
        opening: how to open it.
        targets: channel counts stay multiples of the largest of their granularities; none: single channels.
        data: by default those that the sidecar names, or those of the run.
        metric: by default the model's own.
        samples: the first ones of the part.
        progress: shows a bar.

    Raises:
        InputError: it is no torch network, or there are no data.
    """
    named = kept_data(model) if model.is_dir() else sidecar_data(model, sidecar_of(model))
    source = data if data is not None else named
    if source is None:
        raise InputError("--sensitivity needs data: give --data, or name them in model.toml")
    state = open_model(model, opening, signature_of_data(source), network=True).state
    if isinstance(state.form, OnnxForm):
        raise InputError(f"--sensitivity cuts channels of a torch network, and {model} is an ONNX file")
    state, cut = state.floating(), DataSettings()
    dataset = load_dataset(source, state.signature, limit=cut.limit)
    parts = split(
        dataset, state.signature, calibration=cut.calibration, validation=cut.validation, evaluation=cut.evaluation
    )
    wanted = choose_metric(metric or state.signature.metric, state.signature.task, labelled=dataset.targets is not None)
    decides = deciding_metric(wanted, parts.validation)
    module = state.torch.module
    return sensitivity(
        module,
        state.signature,
        PruneSettings(to_macs=0.5),
        max((target.channels.granularity for target in targets), default=1),
        prunable_groups(module, state.signature),
        judgeable(parts.validation, decides).take(samples),
        decides,
        parts.calibration,
        progress,
    )
