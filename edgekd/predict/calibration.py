"""Fitting a predictor to measured networks, with the errors of those that are left out; from scratch or from another board.

With few measurements of a board its coefficients are *transferred* from another one (TCL: a cost model passes from one
hardware to the next on a tenth of the labels; `f_new` stays near `f_old` up to a shift that is learned). Here the old
board's coefficients are the prior, their common factor is free, and terms may move little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.predict.features import Kernel
from edgekd.predict.latency import Coefficients, Form, Work, fit, kernel_times, roofline_prior
from edgekd.predict.predictor import FAMILIES_NEEDED, FittedNetwork, profile

# How peak, bandwidth and overhead of a usual board stand to each other: MACs and bytes a microsecond, microseconds a call.
PROCESSOR = Coefficients(roofline_prior(4e4, 5e3, 5))  # an Arm or x86 processor
ACCELERATOR = Coefficients(roofline_prior(1e7, 1e5, 8))  # a GPU
ACCELERATED = ("tensorrt",)
SCRATCH = Form(exponent=1.0, term=2.0, single=0.3)  # chosen in benchmarks/predictor, each board by the others
TRANSFER = Form(exponent=1.0, term=0.3, single=0.1)
FEW = 5  # below so many networks coefficients are transferred


@dataclass(frozen=True)
class Measured:
    """A network and its p50 on the board, in ms."""

    model: str
    family: str
    kernels: tuple[Kernel, ...]
    ms: float


def prior_of(runtime: str) -> Coefficients:
    """Return where the fit of a runtime begins."""
    return ACCELERATOR if runtime in ACCELERATED else PROCESSOR


def fit_networks(networks: Sequence[Measured], prior: Coefficients, form: Form) -> Coefficients:
    """Return the coefficients that explain whole networks best."""
    return fit([Work.of(one.kernels) for one in networks], [1e3 * one.ms for one in networks], prior, form)


def leave_out(networks: Sequence[Measured], prior: Coefficients, form: Form) -> list[tuple[float | None, float | None]]:
    """Return, for each network, what is predicted when it is left out of the fit, and when its family is; in ms.

    None where nothing would be left, and for families where there are fewer than three.
    """
    families = {one.family for one in networks}
    found = []
    for one in networks:
        others = [other for other in networks if other is not one]
        alone = predict_ms(one, fit_networks(others, prior, form)) if others else None
        foreign = [other for other in networks if other.family != one.family]
        across = None
        if len(families) >= FAMILIES_NEEDED:
            same = len(foreign) == len(others)
            across = alone if same else predict_ms(one, fit_networks(foreign, prior, form))
        found.append((alone, across))
    return found


def predict_ms(network: Measured, coefficients: Coefficients) -> float:
    """Return what coefficients say of a network, in ms."""
    return float(kernel_times(Work.of(network.kernels), coefficients).total.sum()) / 1e3


def fitted(
    networks: Sequence[Measured], left_out: Sequence[tuple[float | None, float | None]]
) -> tuple[FittedNetwork, ...]:
    """Return what a predictor keeps of the networks that it was fitted to."""
    return tuple(
        FittedNetwork(
            model=one.model,
            family=one.family,
            macs=sum(kernel.macs for kernel in one.kernels),
            kernels=len(one.kernels),
            profile=profile(one.kernels),
            measured_ms=one.ms,
            left_out_ms=None if alone is None else float(f"{alone:.5g}"),
            family_left_out_ms=None if across is None else float(f"{across:.5g}"),
        )
        for one, (alone, across) in zip(networks, left_out, strict=True)
    )


def median_error(networks: Sequence[FittedNetwork], *, family: bool = False) -> float | None:
    """Return the median relative error of left-out networks, or of those of left-out families; None where there are none."""
    predicted = [(one.family_left_out_ms if family else one.left_out_ms, one.measured_ms) for one in networks]
    errors = [abs(left_out / measured - 1) for left_out, measured in predicted if left_out is not None]
    return float(np.median(errors)) if errors else None
