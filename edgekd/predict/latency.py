r"""The latency model: a roofline with an overhead for each kernel, and its fit.

$$ t = \sum_k \Big( o_c + \big[ (w_k)^p + (b_c B_k)^p \big]^{1/p} e^{\beta_c \cdot \phi_k} \Big), \qquad
   w_k = m_c M_k + a_c A_k + x_c X_k $$

with multiply-accumulates M, other arithmetic A, exponentials X and bytes B of kernel k, whose operator is c. A sum of
compute and memory time is p = 1, the classical roofline their maximum (Williams et al., Roofline, 2009, p to infinity).
$\phi$ are logarithms of the kernel's shape; with few measurements $\beta = 0$.

All coefficients are positive: their logarithms are fitted, on relative error, from a *prior* that says how they stand to each
other. A common factor is free, what a term (all operators together) and a single coefficient may deviate from that is held
by $\tau$; so a handful of whole networks suffice to move a prior, and thousands of kernels to leave it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgekd.predict.features import OPERATORS, Kernel

Floats = NDArray[np.float64]

TERMS = ("call", "macs", "operations", "exponentials", "bytes")  # microseconds a call, and for a million of each other
SHAPE = ("inputs", "outputs", "positions")
ENOUGH = (64, 64, 196)  # of each: more make a kernel no more efficient
_MILLION = 1e6
_STEPS = 60


@dataclass(frozen=True)
class Form:
    """What is decided before fitting: the exponent p, and how far coefficients may go from the prior.

    `term` and `single` are standard deviations of the logarithm: of a term for all operators together, and of each
    coefficient beyond that; `shape` of the exponents of the shape, none of which is used where it is 0. `noise` is that of
    the measurements.
    """

    exponent: float = 1.0
    term: float = 1.0
    single: float = 0.3
    shape: float = 0.0
    noise: float = 0.05


@dataclass(frozen=True)
class Coefficients:
    """Microseconds for each operator (rows) and term (columns), and the exponents of its shape.

    `whole` is the time of a network over the sum of its kernels'.
    """

    terms: Floats
    shape: Floats = field(default_factory=lambda: np.zeros((len(OPERATORS), len(SHAPE))))
    exponent: float = 1.0
    whole: float = 1.0


@dataclass(frozen=True)
class Times:
    """The predicted microseconds of every kernel, and which part of each is overhead, compute and memory."""

    total: Floats
    overhead: Floats
    compute: Floats
    memory: Floats


@dataclass(frozen=True)
class Work:
    """Kernels as arrays: operator, terms (one row a kernel) and logarithms of the shape."""

    operator: NDArray[np.int64]
    terms: Floats
    shape: Floats

    @classmethod
    def of(cls, kernels: Sequence[Kernel]) -> "Work":
        """Return what kernels ask for, in the units of `TERMS`."""
        rows = [
            (1.0, *(amount / _MILLION for amount in (one.macs, one.operations, one.exponentials, one.bytes)))
            for one in kernels
        ]
        shapes = [
            [min(math.log(max(have, 1) / enough), 0.0) for have, enough in zip(shape, ENOUGH, strict=True)]
            for shape in ((one.inputs / one.groups, one.outputs / one.groups, one.positions) for one in kernels)
        ]
        return cls(
            np.array([OPERATORS.index(one.operator) for one in kernels], dtype=np.int64),
            np.array(rows, dtype=np.float64).reshape(-1, len(TERMS)),
            np.array(shapes, dtype=np.float64).reshape(-1, len(SHAPE)),
        )


def kernel_times(work: Work, coefficients: Coefficients) -> Times:
    """Return what every kernel takes."""
    parts = work.terms * coefficients.terms[work.operator]
    stretch = np.exp((work.shape * coefficients.shape[work.operator]).sum(1)) * coefficients.whole
    overhead, compute, memory = parts[:, 0] * coefficients.whole, parts[:, 1:4].sum(1), parts[:, 4]
    joined = _joined(compute, memory, coefficients.exponent)
    return Times(overhead + joined * stretch, overhead, compute * stretch, memory * stretch)


def network_ms(kernels: Sequence[Kernel], coefficients: Coefficients) -> float:
    """Return what a network takes, in milliseconds."""
    return float(kernel_times(Work.of(kernels), coefficients).total.sum() / 1e3)


def roofline_prior(
    macs_per_us: float, bytes_per_us: float, call_us: float, exponentials_per_us: float | None = None
) -> Floats:
    """Return the terms of a board of this peak and bandwidth (in MACs and bytes a microsecond), with usual efficiencies.

    How efficiencies of operators stand to each other is a guess that the fit corrects: depthwise layers reuse little of what
    they load, products of two activations are small, arithmetic outside of multiply-accumulates is not blocked.
    """
    efficiency = dict.fromkeys(OPERATORS, 0.5)
    efficiency |= {"depthwise": 0.1, "grouped": 0.25, "transposed": 0.25, "product": 0.25, "recurrent": 0.1}
    terms = np.empty((len(OPERATORS), len(TERMS)))
    for row, operator in enumerate(OPERATORS):
        terms[row] = (
            call_us,
            _MILLION / (macs_per_us * efficiency[operator]),
            _MILLION / (macs_per_us * 0.25),
            _MILLION / (exponentials_per_us or macs_per_us * 0.05),
            _MILLION / (bytes_per_us * 0.7),
        )
    return terms


def fit(
    samples: Sequence[Work],
    times_us: Sequence[float],
    prior: Coefficients,
    form: Form,
    weights: Sequence[float] | None = None,
) -> Coefficients:
    """Return the coefficients that explain the times best, by Gauss-Newton on the logarithms.

    Args:
        samples: what was timed: a whole network, or a single kernel.
        times_us: in microseconds, positive.
        prior: where the coefficients come from; only their ratios count.
        form: what is decided beforehand.
        weights: how much each sample counts, 1 on average.
    """
    work = Work(*(np.concatenate([getattr(one, name) for one in samples]) for name in ("operator", "terms", "shape")))
    owner = np.repeat(np.arange(len(samples)), [len(one.operator) for one in samples])
    wanted = np.log(np.asarray(times_us, dtype=np.float64))
    importance = np.sqrt(np.ones(len(samples)) if weights is None else np.asarray(weights, dtype=np.float64))
    rows, columns = len(OPERATORS), len(TERMS)
    present = np.zeros((rows, columns), dtype=bool)
    np.logical_or.at(present, work.operator, work.terms > 0)
    shaped = np.zeros((rows, len(SHAPE)), dtype=bool)
    if form.shape > 0:
        np.logical_or.at(shaped, work.operator, work.shape != 0)
    singles, exponents = np.argwhere(present), np.argwhere(shaped)
    count = 1 + columns + len(singles) + len(exponents)
    held = np.concatenate(
        [
            [0.0],
            np.full(columns, 1 / form.term),
            np.full(len(singles), 1 / form.single),
            np.full(len(exponents), 1 / form.shape if form.shape else 0.0),
        ]
    )
    unknown = np.zeros(count)
    base = replace(prior, exponent=form.exponent, whole=1.0)

    def at(values: Floats) -> Coefficients:
        logs = values[0] + values[1 : 1 + columns] + np.zeros((rows, columns))
        logs[tuple(singles.T)] += values[1 + columns : 1 + columns + len(singles)]
        shape = base.shape.copy()
        shape[tuple(exponents.T)] += values[1 + columns + len(singles) :]
        return replace(base, terms=base.terms * np.exp(logs), shape=shape)

    def loss(values: Floats) -> float:
        predicted = np.bincount(owner, kernel_times(work, at(values)).total, len(samples))
        return float(
            (((np.log(predicted) - wanted) * importance / form.noise) ** 2).sum() + ((held * values) ** 2).sum()
        )

    unknown[0] = np.mean(wanted - np.log(np.bincount(owner, kernel_times(work, at(unknown)).total, len(samples))))
    best = loss(unknown)
    damping = 1e-3
    for _ in range(_STEPS):
        by_term, by_shape, predicted = _derivatives(work, owner, at(unknown), len(samples))
        jacobian = np.zeros((len(samples), count))
        jacobian[:, 0] = by_term.sum((1, 2))
        jacobian[:, 1 : 1 + columns] = by_term.sum(1)
        jacobian[:, 1 + columns : 1 + columns + len(singles)] = by_term[:, singles[:, 0], singles[:, 1]]
        if len(exponents):
            jacobian[:, 1 + columns + len(singles) :] = by_shape[:, exponents[:, 0], exponents[:, 1]]
        jacobian *= (importance / form.noise)[:, None]
        residual = (wanted - np.log(predicted)) * importance / form.noise
        normal = jacobian.T @ jacobian + np.diag(held**2)
        gradient = jacobian.T @ residual - held**2 * unknown
        while damping < 1e9:
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), gradient)
            tried = loss(unknown + np.clip(step, -2, 2))
            if tried < best:
                break
            damping *= 10
        else:
            break
        unknown = unknown + np.clip(step, -2, 2)
        gain, best, damping = best - tried, tried, max(damping / 10, 1e-9)
        if gain < 1e-8 * max(best, 1e-9):
            break
    return at(unknown)


def _joined(compute: Floats, memory: Floats, exponent: float) -> Floats:
    if exponent == 1:
        return compute + memory
    largest = np.maximum(np.maximum(compute, memory), 1e-30)
    joined: Floats = largest * ((compute / largest) ** exponent + (memory / largest) ** exponent) ** (1 / exponent)
    return joined


def _derivatives(work: Work, owner: NDArray[np.int64], now: Coefficients, count: int) -> tuple[Floats, Floats, Floats]:
    """Return how the logarithm of every sample's time follows those of the terms and the shape's exponents, and the times."""
    parts = work.terms * now.terms[work.operator]
    stretch = np.exp((work.shape * now.shape[work.operator]).sum(1))
    compute, memory = parts[:, 1:4].sum(1), parts[:, 4]
    joined = _joined(compute, memory, now.exponent)
    safe = np.maximum(joined, 1e-30)
    slopes = np.ones_like(parts)
    slopes[:, 1:4] = ((np.maximum(compute, 1e-30) / safe) ** (now.exponent - 1) * stretch)[:, None]
    slopes[:, 4] = (np.maximum(memory, 1e-30) / safe) ** (now.exponent - 1) * stretch
    total = parts[:, 0] + joined * stretch
    by_term = np.zeros((count, len(OPERATORS), len(TERMS)))
    np.add.at(by_term, (owner, work.operator), parts * slopes)
    by_shape = np.zeros((count, len(OPERATORS), len(SHAPE)))
    np.add.at(by_shape, (owner, work.operator), work.shape * (joined * stretch)[:, None])
    predicted: Floats = np.bincount(owner, total, count).astype(np.float64)
    return by_term / predicted[:, None, None], by_shape / predicted[:, None, None], predicted
