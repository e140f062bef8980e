import torch

from edgekd.losses import Answer, Step
from edgekd.losses.feature.counted import counted, whole_batch


def test_left_out_samples_are_dropped_in_every_process() -> None:
    features = torch.arange(6.0).reshape(3, 2)
    step = Step(Answer({}), valid=torch.tensor([True, False, True]), gather=lambda tensor: torch.cat([tensor, tensor]))
    assert counted(features, step).tolist() == [[0, 1], [4, 5]]
    assert whole_batch(features, step).tolist() == [[0, 1], [4, 5], [0, 1], [4, 5]]


def test_a_mask_of_positions_leaves_out_no_sample() -> None:
    features = torch.randn(2, 3, 4, 4)
    step = Step(Answer({}), valid=torch.zeros(2, 4, 4, dtype=torch.bool))
    assert counted(features, step) is features and whole_batch(features, step) is features
