import torch

from edgekd.training.augment import augment


def test_augmentations_keep_shape_and_values() -> None:
    images = torch.rand(16, 3, 14, 28)
    generator = torch.Generator().manual_seed(0)
    flipped = augment(images, ("horizontal-flip",), generator)
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all() and same.any() and mirrored.any()
    moved = [augment(images, ("shift",), generator) for _ in range(8)]
    assert all(batch.shape == images.shape for batch in moved)
    assert any(not torch.equal(batch, images) for batch in moved)
    assert torch.equal(augment(images, (), generator), images)


def test_a_share_of_the_batch_is_changed_as_the_whole_is() -> None:
    images, kinds = torch.rand(8, 1, 14, 14), ("horizontal-flip", "shift")
    whole = augment(images, kinds, torch.Generator().manual_seed(5))
    halves = [
        augment(images[share], kinds, torch.Generator().manual_seed(5), 8, share)
        for share in (slice(0, 4), slice(4, 8))
    ]
    assert torch.equal(whole, torch.cat(halves))
