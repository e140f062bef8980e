"""Which networks are worth a measurement."""

from edgekd.predict.features import Kernel
from edgekd.predict.latency import Coefficients
from edgekd.predict.selection import choose_networks

from .conftest import BOARD, networks


def test_a_copy_of_what_is_chosen_comes_last() -> None:
    made = networks()
    kernels = [one.kernels for one in made]
    (first,) = choose_networks(kernels, 1, [])
    doubled = [*kernels, kernels[first]]
    chosen = choose_networks(doubled, len(doubled), [])
    assert {chosen[0], chosen[-1]} == {first, len(kernels)}


def test_what_boards_disagree_about_is_measured_first() -> None:
    made = networks()
    kernels: list[tuple[Kernel, ...]] = [one.kernels for one in made]
    slow_calls = Coefficients(BOARD.terms * [[30, 1, 1, 1, 1]])
    (first,) = choose_networks(kernels, 1, [BOARD, slow_calls])
    assert first != choose_networks(kernels, 1, [])[0]


def test_nothing_is_chosen_twice_or_measured_again() -> None:
    made = networks()
    kernels = [one.kernels for one in made]
    chosen = choose_networks(kernels, len(made), [BOARD], measured=[0, 3])
    assert sorted(chosen) == [number for number in range(len(made)) if number not in (0, 3)]
