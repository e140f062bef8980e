import math

import pytest
import torch
from torch.nn import functional

from edgekd.losses.crossmodal.modality_tokens import ModalityTokens, ReliabilityFusion


def test_a_missing_modality_is_its_token() -> None:
    tokens = ModalityTokens(2, 5).eval()
    features = torch.randn(3, 2, 5)
    found = tokens(features, torch.tensor([[1, 1], [0, 1], [0, 0]]))
    torch.testing.assert_close(found[0], features[0])
    torch.testing.assert_close(found[1], torch.stack([tokens.tokens[0], features[1, 1]]))
    torch.testing.assert_close(found[2], tokens.tokens)


def test_what_a_missing_modality_holds_does_not_matter_and_gets_no_gradient() -> None:
    tokens = ModalityTokens(2, 5).eval()
    features = torch.randn(3, 2, 5, requires_grad=True)
    mask = torch.tensor([[True, False]] * 3)
    tokens(features, mask).sum().backward()
    assert features.grad is not None and tokens.tokens.grad is not None
    assert (features.grad[:, 1] == 0).all() and (features.grad[:, 0] == 1).all()
    assert (tokens.tokens.grad[0] == 0).all() and (tokens.tokens.grad[1] == 3).all()


def kept(tokens: ModalityTokens, mask: torch.Tensor) -> torch.Tensor:
    """Return which modalities were used, (N, M)."""
    with torch.no_grad():
        tokens.tokens.fill_(-7.0)
        return tokens(torch.ones(*mask.shape, tokens.tokens.shape[1]), mask)[..., 0] > 0


def test_training_drops_modalities_at_its_rate_but_never_all_of_a_sample() -> None:
    torch.manual_seed(0)
    found = kept(ModalityTokens(3, 2, drop=0.5), torch.ones(8000, 3))
    assert found.any(1).all()
    # each is kept with 1/2, or as the one that stays where all were dropped (1/8 of the samples, 1/3 each)
    torch.testing.assert_close(found.float().mean(0), torch.full((3,), 0.5 + 1 / 24), atol=0.02, rtol=0)
    alone = found[found.sum(1) == 1].float().mean(0)
    torch.testing.assert_close(alone, torch.full((3,), 1 / 3), atol=0.03, rtol=0)


def test_what_is_missing_never_appears_and_the_last_one_stays() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0]]).repeat_interleave(500, 0)
    found = kept(ModalityTokens(3, 2, drop=0.9), mask)
    assert not (found & (mask == 0)).any()
    assert found[:500, 0].all() and found[500:1000].any(1).all() and found[500:1000].sum() < 800


def test_evaluation_drops_nothing() -> None:
    assert kept(ModalityTokens(3, 2, drop=0.9).eval(), torch.ones(100, 3)).all()
    assert kept(ModalityTokens(3, 2, drop=0.0), torch.ones(100, 3)).all()


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_drop_is_a_probability(drop: float) -> None:
    with pytest.raises(ValueError, match="drop is a probability"):
        ModalityTokens(2, 4, drop)


def test_reliability_scales_and_two_modalities_attend_to_each_other() -> None:
    torch.manual_seed(0)
    fusion, f = ReliabilityFusion(2, 4, 3), torch.randn(5, 2, 4)
    r = torch.cat([fusion.scores[0](f[:, 0]), fusion.scores[1](f[:, 1])], 1).softmax(1)
    torch.testing.assert_close(fusion.reliability(f), r)
    a, b = 2 * r[:, :1] * f[:, 0], 2 * r[:, 1:] * f[:, 1]
    # with one other modality the attention to it is 1
    expected = fusion.classifier(torch.cat([a + fusion.value(b), b + fusion.value(a)], 1))
    torch.testing.assert_close(fusion(f), expected)


def test_three_modalities_attend_to_the_two_others() -> None:
    torch.manual_seed(0)
    fusion, f = ReliabilityFusion(3, 4, 2), torch.randn(5, 3, 4)
    scaled = 3 * fusion.reliability(f).unsqueeze(-1) * f
    parts = []
    for m in range(3):
        others = [k for k in range(3) if k != m]
        scores = torch.stack([(fusion.query(scaled[:, m]) * fusion.key(scaled[:, k])).sum(1) for k in others], 1)
        weight = functional.softmax(scores / math.sqrt(4), 1)
        parts.append(scaled[:, m] + sum(weight[:, i, None] * fusion.value(scaled[:, k]) for i, k in enumerate(others)))
    torch.testing.assert_close(fusion(f), fusion.classifier(torch.cat(parts, 1)))


def test_a_fusion_takes_two_modalities_or_more() -> None:
    with pytest.raises(ValueError, match="two modalities or more"):
        ReliabilityFusion(1, 4, 2)


class Student(torch.nn.Module):
    """Two inputs, one of which may be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.fusion = ModalityTokens(2, 4), ReliabilityFusion(2, 4, 3)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fusion(self.tokens(features, mask))
        return logits


def test_one_exported_program_serves_every_mask() -> None:
    torch.manual_seed(0)
    student, features = Student().eval(), torch.randn(2, 2, 4)
    program = torch.export.export(student, (features, torch.ones(2, 2))).module()
    for mask in (torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 2)):
        torch.testing.assert_close(program(features, mask), student(features, mask))
