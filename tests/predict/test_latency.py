"""The fit on times made by known coefficients."""

import numpy as np
import pytest

from edgekd.predict.calibration import SCRATCH, TRANSFER, fit_networks
from edgekd.predict.features import OPERATORS, Kernel
from edgekd.predict.latency import SHAPE, TERMS, Coefficients, Form, Work, fit, kernel_times, network_ms

from .conftest import BOARD, FAMILIES, PRIOR, network, networks


def test_the_parts_of_a_kernel_add_up_to_its_time() -> None:
    kernel = Kernel("k", "conv", "fp32", macs=2_000_000, bytes=1_000_000)
    row = OPERATORS.index("conv")
    terms = dict(zip(TERMS, BOARD.terms[row], strict=True))
    times = kernel_times(Work.of([kernel]), BOARD)
    assert times.total[0] == pytest.approx(terms["call"] + 2 * terms["macs"] + terms["bytes"])
    roofline = kernel_times(Work.of([kernel]), Coefficients(BOARD.terms, exponent=16)).total[0]
    assert roofline == pytest.approx(terms["call"] + max(2 * terms["macs"], terms["bytes"]), rel=0.05)


def test_single_kernels_give_the_coefficients_back() -> None:
    random = np.random.default_rng(1)
    kernels = [
        Kernel("k", "conv", "fp32", macs=int(10 ** random.uniform(3, 9)), bytes=int(10 ** random.uniform(3, 8)))
        for _ in range(200)
    ]
    samples = [Work.of([kernel]) for kernel in kernels]
    found = fit(samples, [kernel_times(one, BOARD).total[0] for one in samples], PRIOR, Form(term=2, single=2))
    row = OPERATORS.index("conv")
    for term in ("call", "macs", "bytes"):
        column = TERMS.index(term)
        assert found.terms[row, column] == pytest.approx(BOARD.terms[row, column], rel=0.02), term


def test_exponents_of_the_shape_are_found() -> None:
    random = np.random.default_rng(2)
    shape = np.zeros((len(OPERATORS), len(SHAPE)))
    shape[OPERATORS.index("conv"), SHAPE.index("inputs")] = -0.3
    board = Coefficients(BOARD.terms, shape)
    samples = [
        Work.of([Kernel("k", "conv", "fp32", macs=10_000_000, bytes=100_000, inputs=int(random.integers(4, 512)))])
        for _ in range(100)
    ]
    found = fit(samples, [kernel_times(one, board).total[0] for one in samples], BOARD, Form(shape=1.0))
    assert found.shape[OPERATORS.index("conv"), SHAPE.index("inputs")] == pytest.approx(-0.3, abs=0.03)


def test_whole_networks_move_a_prior_to_the_board() -> None:
    found = fit_networks(networks(), PRIOR, SCRATCH)
    unseen = network(FAMILIES["mixed"], 5, seed=99)
    wanted = network_ms(unseen, BOARD)
    assert network_ms(unseen, found) == pytest.approx(wanted, rel=0.05)
    assert abs(network_ms(unseen, PRIOR) / wanted - 1) > 0.1


def test_one_network_transfers_what_another_board_taught() -> None:
    faster = Coefficients(BOARD.terms / 3)
    (one, *others) = networks()
    measured = [type(one)(one.model, one.family, one.kernels, network_ms(one.kernels, faster))]
    transferred, scratch = fit_networks(measured, BOARD, TRANSFER), fit_networks(measured, PRIOR, SCRATCH)
    errors = [
        [abs(network_ms(other.kernels, found) / network_ms(other.kernels, faster) - 1) for other in others]
        for found in (transferred, scratch)
    ]
    assert max(errors[0]) < 0.01 < 0.1 < max(errors[1])
