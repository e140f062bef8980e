"""Made-up networks of known work, and a board of known coefficients."""

from collections.abc import Sequence

import numpy as np
import pytest

from edgekd.predict.calibration import SCRATCH, Measured, fit_networks, fitted, leave_out
from edgekd.predict.features import Kernel, Operator
from edgekd.predict.latency import Coefficients, network_ms, roofline_prior
from edgekd.predict.predictor import Predictor, to_json

BOARD = Coefficients(roofline_prior(2e4, 1e4, 100))
PRIOR = Coefficients(roofline_prior(4e4, 5e3, 5))


def network(operators: Sequence[Operator], size: float, seed: int) -> tuple[Kernel, ...]:
    """Twelve kernels of these operators, of random sizes around `size` million multiply-accumulates."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(12):
        operator = operators[number % len(operators)]
        macs = int(size * 1e6 * random.uniform(0.3, 3)) if operator in ("conv", "depthwise", "pointwise") else 0
        moved = int(size * 4e4 * random.uniform(0.3, 3))
        found.append(Kernel(f"k{number}", operator, "fp32", macs, moved, 0, moved, moved, moved, 12 * moved))
    return tuple(found)


FAMILIES: dict[str, tuple[Operator, ...]] = {
    "plain": ("conv", "pool"),
    "mobile": ("depthwise", "pointwise", "pool"),
    "mixed": ("conv", "pointwise", "depthwise", "pool"),
}


def networks(families: Sequence[str] = tuple(FAMILIES), noise: float = 0.0) -> list[Measured]:
    """Four sizes of each family, timed on the board."""
    random = np.random.default_rng(0)
    found = []
    for family in families:
        for size in (1, 3, 9, 27):
            kernels = network(FAMILIES[family], size, len(found))
            ms = network_ms(kernels, BOARD) * float(np.exp(noise * random.standard_normal()))
            found.append(Measured(f"{family}-{size}", family, kernels, ms))
    return found


def make_predictor(measured: list[Measured]) -> Predictor:
    """A predictor fitted to these."""
    return Predictor(
        schema=1,
        target="raspberry-pi-5",
        runtime="onnxruntime",
        precision="fp32",
        harness="made-up",
        source="a test",
        basis="measured",
        counted="own file",
        networks=fitted(measured, leave_out(measured, PRIOR, SCRATCH)),
        **to_json(fit_networks(measured, PRIOR, SCRATCH)),
    )


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return make_predictor(networks(noise=0.05))
