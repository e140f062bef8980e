import torch

from edgekd.losses.feature.cka import linear_cka


def test_it_is_the_alignment_of_centred_gram_matrices() -> None:
    x, y = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, 6, dtype=torch.float64)
    centre = torch.eye(9, dtype=torch.float64) - 1 / 9
    mine, yours = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    torch.testing.assert_close(linear_cka(x, y), (mine * yours).sum() / (mine.norm() * yours.norm()))


def test_rotations_scales_and_shifts_change_nothing() -> None:
    x = torch.randn(9, 4, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    torch.testing.assert_close(linear_cka(x, 3 * x @ rotation + 5), torch.tensor(1.0, dtype=torch.float64))


def test_unrelated_features_score_zero_and_so_do_constant_ones() -> None:
    x, y = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    assert linear_cka(x, y) == 0
    assert linear_cka(x, torch.full((4, 2), 7.0)) == 0


def test_half_precision_is_computed_in_float32() -> None:
    x = (1000 * torch.randn(16, 4)).half()
    assert linear_cka(x, x).dtype == torch.float32
    torch.testing.assert_close(linear_cka(x, x), torch.tensor(1.0))
