import pytest
from pydantic import ValidationError

from edgekd.stages.mask import MaskSettings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sparsity": 0}, "greater than 0"),
        ({"sparsity": 1}, "less than 1"),
        ({}, "give sparsity, or pattern N:M"),
        ({"sparsity": 0.7, "pattern": "2:4"}, "pattern 2:4 means sparsity 0.5, not 0.7"),
        ({"pattern": "4:2"}, "0 < N < M"),
        ({"pattern": "0:4"}, "0 < N < M"),
        ({"pattern": "some"}, 'not "some"'),
        ({"sparsity": 0.5, "keep_sparsity": False}, "would undo the mask"),
        ({"sparsity": 0.5, "epochs": 3, "patience": 1}, "before all zeros are there"),
    ],
)
def test_contradictions_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MaskSettings.model_validate(given)


@pytest.mark.parametrize(("pattern", "zeros"), [("2:4", 0.5), ("4:8", 0.5), ("1:4", 0.75)])
def test_a_pattern_gives_the_share_of_zeros(pattern: str, zeros: float) -> None:
    assert MaskSettings(pattern=pattern).zeros == MaskSettings(pattern=pattern, sparsity=zeros).zeros == zeros


def test_the_ramp_is_cubic_and_then_stays() -> None:
    settings = MaskSettings(sparsity=0.8, ramp=0.5)
    shares = [settings.zeros_at(progress) for progress in (0, 0.25, 0.5, 1)]
    assert shares == pytest.approx([0, 0.8 * (1 - 0.5**3), 0.8, 0.8])
