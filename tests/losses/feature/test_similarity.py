import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.feature.similarity import Similarity, batch_similarity, position_similarity, region_means


def _step(student: torch.Tensor, teacher: torch.Tensor, **fields: object) -> Step:
    mine, yours = Answer({}, {"penultimate": student}), Answer({}, {"penultimate": teacher})
    return Step(mine, {"t": yours}, yours, **fields)  # type: ignore[arg-type]


def test_the_batch_s_rows_have_length_one() -> None:
    features = torch.randn(4, 6)
    matrix = torch.tensor([[float(a @ b) for b in features] for a in features])
    torch.testing.assert_close(batch_similarity(features), matrix / matrix.norm(dim=1, keepdim=True))


def test_positions_are_compared_by_cosine() -> None:
    features = torch.randn(2, 3, 4)
    expected = functional.cosine_similarity(features[1, :, 2], features[1, :, 3], dim=0)
    torch.testing.assert_close(position_similarity(features)[1, 2, 3], expected)


def test_regions_are_averaged_also_at_another_size() -> None:
    features = torch.randn(1, 3, 2, 2)
    regions = torch.tensor([[[0, 1], [1, -1]]]).repeat_interleave(2, 1).repeat_interleave(2, 2)
    expected = torch.stack([features[0, :, 0, 0], (features[0, :, 0, 1] + features[0, :, 1, 0]) / 2], 1)
    torch.testing.assert_close(region_means(features, regions)[0], expected)


def test_a_sample_that_lacks_a_region_has_zeros_there() -> None:
    regions = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)]).long()
    means = region_means(torch.ones(2, 3, 2, 2), regions)
    assert means[:, 0].tolist() == [[1, 0], [0, 1]]


def test_students_of_another_width_and_size_are_compared_at_all_levels() -> None:
    student, teacher = torch.randn(3, 2, 5, 5, requires_grad=True), torch.randn(3, 7, 9, 9)
    levels = [Similarity(levels=(level,))(_step(student, teacher)) for level in ("batch", "pixel", "region")]
    torch.testing.assert_close(Similarity()(_step(student, teacher)), sum(levels))
    assert all(level > 0 for level in levels)


def test_a_rotation_of_the_channels_changes_nothing() -> None:
    student = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    rotated = torch.einsum("ij,njhw->nihw", rotation, student)
    assert Similarity()(_step(student, rotated)) < 1e-12


def test_named_regions_take_the_grid_s_place() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    regions = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    mine, yours = (position_similarity(region_means(side, regions)) for side in (student, teacher))
    value = Similarity(levels=("region",), regions="parts")(_step(student, teacher, extras={"parts": regions}))
    torch.testing.assert_close(value, (mine - yours).square().mean())


def test_the_batch_is_that_of_all_processes() -> None:
    full = {3: torch.randn(4, 3), 5: torch.randn(4, 5)}
    alone = Similarity()(_step(full[3], full[5]))
    part = Similarity()(_step(full[3][:2], full[5][:2], gather=lambda tensor: full[tensor.shape[1]]))
    torch.testing.assert_close(part, alone)


def test_left_out_samples_have_no_part() -> None:
    student, teacher = torch.randn(4, 3, 4, 4), torch.randn(4, 3, 4, 4)
    valid = torch.tensor([True, True, False, True])
    value = Similarity()(_step(student, teacher, valid=valid))
    torch.testing.assert_close(value, Similarity()(_step(student[valid], teacher[valid])))
    assert Similarity()(_step(student, teacher, valid=~valid & valid)) == 0


def test_pixels_of_vectors_are_refused() -> None:
    vector = Answer({}, {"penultimate": torch.randn(2, 3)})
    with pytest.raises(InputError, match=r'levels = \["batch"\]'):
        Similarity(levels=("batch", "pixel")).prepare(Setup(vector, {"t": vector}, 2))
    with pytest.raises(ValueError, match="levels"):
        Similarity(levels=())
