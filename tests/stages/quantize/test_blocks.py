import numpy as np
import pytest

from edgekd.stages.quantize.weight_only.blocks import Blocks, packed_bytes, round_blocks


def values(blocks: Blocks, block: int, inputs: int) -> np.ndarray:
    zeros = np.zeros_like(blocks.steps) if blocks.zero_points is None else blocks.zero_points.astype(np.float32)
    steps, offsets = (np.repeat(one, block, axis=2)[:, :, :inputs] for one in (blocks.steps, zeros))
    return steps * (blocks.levels - offsets)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_weight_moves_by_half_a_step_at_most(bits: int, symmetric: bool) -> None:
    rows = np.random.default_rng(0).normal(0.3, 1, (1, 5, 40))
    made = round_blocks(rows, bits, 16, None, symmetric=symmetric)
    assert made.steps.shape == (1, 5, 3) and made.levels.min() >= -(2 ** (bits - 1))
    assert made.levels.max() <= 2 ** (bits - 1) - 1 and (made.zero_points is None) == symmetric
    allowed = np.repeat(made.steps, 16, axis=2)[:, :, :40] * (
        0.501 if symmetric else 1.001
    )  # the zero point is rounded too
    assert (np.abs(values(made, 16, 40) - rows) <= allowed).all()


def test_smaller_blocks_and_zero_points_round_finer() -> None:
    rows = np.random.default_rng(0).exponential(1, (1, 8, 256))

    def error(block: int, *, symmetric: bool) -> float:
        made = round_blocks(rows, 4, block, None, symmetric=symmetric)
        return float(((values(made, block or 256, 256) - rows) ** 2).sum())

    assert error(32, symmetric=True) < error(128, symmetric=True) < error(0, symmetric=True)
    assert error(32, symmetric=False) < error(32, symmetric=True)


def test_a_block_larger_than_the_input_is_the_whole_input() -> None:
    rows = np.random.default_rng(0).normal(size=(1, 3, 20))
    wide, whole = (round_blocks(rows, 4, block, None, symmetric=True) for block in (128, 0))
    assert (wide.levels == whole.levels).all() and wide.steps.shape == (1, 3, 1)


def test_a_block_of_zeros_stays_zero() -> None:
    for symmetric in (True, False):
        made = round_blocks(np.zeros((1, 2, 32)), 4, 32, None, symmetric=symmetric)
        assert (values(made, 32, 32) == 0).all()


def test_least_output_error_changes_the_output_less_where_inputs_go_together() -> None:
    random = np.random.default_rng(0)
    rows, mixing = random.normal(size=(1, 16, 64)), random.normal(size=(64, 8))
    x = mixing @ random.normal(size=(8, 500)) + 0.1 * random.normal(size=(64, 500))
    second = (x @ x.T / 500)[None]

    def error(covariance: np.ndarray | None) -> float:
        moved = values(round_blocks(rows, 4, 32, covariance, symmetric=True), 32, 64) - rows
        return float(((moved[0] @ x) ** 2).mean())

    assert error(second) < 0.5 * error(None)


def test_bytes_of_packed_weights() -> None:
    assert packed_bytes(1000, 32, 4, symmetric=True) == 500 + 128
    assert packed_bytes(1001, 33, 4, symmetric=False) == 501 + 132 + 17
    assert packed_bytes(1000, 32, 8, symmetric=False) == 1000 + 128 + 32
