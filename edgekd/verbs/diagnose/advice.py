"""The next action for a layer, from what was measured of it."""

from typing import TYPE_CHECKING

from edgekd.metrics import Metric

if TYPE_CHECKING:
    from edgekd.verbs.diagnose.diagnosis import LayerDiagnosis

CLIPPED = 1e-3  # share of the input's values
NOISY = 0.1  # share of the noise
_GAIN_DB = 0.5


def advise(layer: "LayerDiagnosis", score: float, sqnr_db: float, metric: Metric) -> str:
    """Return what to do about a layer; nothing for one whose noise does not matter.

    Args:
        layer: what was measured, `advice` empty.
        score: of the int8 network.
        sqnr_db: of the int8 network's outputs.
        metric: that the score is.
    """
    if layer.noise < NOISY and layer.without_sqnr_db is None:
        return ""
    said = []
    if layer.weight_outliers:
        said.append(
            f"output channels {_few(layer.weight_outliers)} of its weight are far larger than the others and share one step: "
            "choose a target or runtime with per_channel weights"
        )
    if layer.input_outliers and layer.noise >= NOISY:
        said.append(f"channels {_few(layer.input_outliers)} of its input are far larger than the others")
    if layer.clipped > CLIPPED and layer.noise >= NOISY:
        said.append(f'{layer.clipped:.1%} of its input is clipped: try calibrators = ["min-max"]')
    if layer.without_sqnr_db is not None and layer.without_score is not None:
        gain = layer.without_sqnr_db - sqnr_db
        better = metric.drop(layer.without_score, score)
        if gain >= _GAIN_DB:
            change = f" and {better:+.2f} {metric.unit or metric.name}" if better > 0 and not metric.fidelity else ""
            price = f"{layer.macs:.1%} of the MACs and {layer.weights:.1%} of the weights"
            said.append(f'keep_float = ["{layer.name}"] gives {gain:+.1f} dB{change} for {price} in float')
    return "; ".join(said)


def _few(channels: tuple[int, ...]) -> str:
    return ", ".join(str(one) for one in channels[:4]) + (" ..." if len(channels) > 4 else "")
