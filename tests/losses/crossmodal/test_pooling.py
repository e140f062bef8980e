import torch

from edgekd.losses.crossmodal.pooling import pooled, sample_mean

from ..steps import random


def test_a_feature_is_pooled_over_its_positions() -> None:
    vectors, tokens, maps = random(2, 3), random(2, 5, 3), random(2, 3, 4, 6)
    assert pooled(vectors) is vectors
    torch.testing.assert_close(pooled(tokens)[1, 2], tokens[1, :, 2].mean())
    torch.testing.assert_close(pooled(maps)[1, 2], maps[1, 2].mean())


def test_padded_tokens_have_no_part_in_the_mean() -> None:
    tokens, valid = random(2, 5, 3), torch.tensor([[True] * 5, [True, True, False, False, False]])
    torch.testing.assert_close(pooled(tokens, valid)[1], tokens[1, :2].mean(0))
    torch.testing.assert_close(pooled(tokens, valid)[0], tokens[0].mean(0))
    torch.testing.assert_close(pooled(tokens, valid[:, :4]), tokens.mean(1))


def test_the_mean_of_a_sample_is_over_the_positions_that_count() -> None:
    values = torch.tensor([[1.0, 2.0, 9.0], [4.0, 5.0, 6.0]])
    valid = torch.tensor([[True, True, False], [False, False, False]])
    assert sample_mean(values, valid).tolist() == [1.5, 0.0]
    assert sample_mean(values).tolist() == sample_mean(values, valid[:, :2]).tolist() == [4.0, 5.0]
    assert sample_mean(values[0], valid[0]).tolist() == [1.0, 2.0, 9.0]
    torch.testing.assert_close(sample_mean(values[:, :2].reshape(1, 2, 2)), torch.tensor([3.0]))
