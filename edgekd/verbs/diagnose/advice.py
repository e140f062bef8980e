"""The next action for a layer, from what was measured of it."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgekd.metrics import Metric

if TYPE_CHECKING:
    from edgekd.verbs.diagnose.diagnosis import LayerDiagnosis

CLIPPED = 1e-3  # share of the input's values
NOISY = 0.1  # share of the noise
_GAIN_DB = 0.5


def advise(
    layer: "LayerDiagnosis", score: float, sqnr_db: float, metric: Metric, calibrators: Collection[str] = ()
) -> str:
    """Return what to do about a layer; nothing for one whose noise does not matter.

    Args:
        layer: what was measured, `advice` empty.
        score: of the int8 network.
        sqnr_db: of the int8 network's outputs.
        metric: that the score is.
        calibrators: those that were compared when the file was made.
    """
    if layer.noise < NOISY and layer.without_sqnr_db is None:
        return ""
    said = []
    if layer.weight_outliers:
        said.append(
            f"output {_are(layer.weight_outliers, 'its weight')} far larger than the others at one common step: "
            "choose a target or runtime with per_channel weights"
        )
    if layer.input_outliers and layer.noise >= NOISY:
        said.append(f"{_are(layer.input_outliers, 'its input')} far larger than the others")
    if layer.clipped > CLIPPED and layer.noise >= NOISY:
        lost = "min-max" in calibrators
        action = "min-max, which clips nothing, was compared and lost" if lost else 'try calibrators = ["min-max"]'
        said.append(f"{layer.clipped:.1%} of its input is clipped: {action}")
    if layer.without_sqnr_db is not None and layer.without_score is not None:
        gain = layer.without_sqnr_db - sqnr_db
        better = metric.drop(layer.without_score, score)
        if gain >= _GAIN_DB:
            change = f" and {better:+.2f} {metric.unit or metric.name}" if better > 0 and not metric.fidelity else ""
            price = f"{layer.macs:.1%} of the MACs and {layer.weights:.1%} of the weights"
            said.append(f'keep_float = ["{layer.name}"] gives {gain:+.1f} dB{change} for {price} in float')
    return "; ".join(said)


def _are(channels: tuple[int, ...], of: str) -> str:
    """Return the first channels with their verb: `channel 3 of its input is`."""
    if len(channels) == 1:
        return f"channel {channels[0]} of {of} is"
    return f"channels {', '.join(str(one) for one in channels[:4])}{' ...' if len(channels) > 4 else ''} of {of} are"
