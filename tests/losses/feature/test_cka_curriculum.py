import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import LOSSES
from edgekd.losses.feature.cka import linear_cka
from edgekd.losses.feature.cka_curriculum import CkaCurriculum, Progress

from ..steps import Answer, make_setup, make_step, memory_of, random

BLOCKS = ("b.0", "b.1", "b.2")


def features(seed: int, *size: int) -> Answer:
    return Answer({}, {block: random(*size, seed=seed + number) for number, block in enumerate(BLOCKS)})


def test_it_moves_on_when_the_features_align() -> None:
    teacher = features(1, 6, 4)
    policy = CkaCurriculum(student="a", blocks=BLOCKS, threshold=0.9, rate=0.5)
    apart, alike = (Answer({}, {"a": feature}) for feature in (random(6, 4, seed=9), 3 * teacher.features["b.0"] - 1))
    memory = policy.prepare(make_setup(apart, teacher)).double()
    (pair,) = policy.pairs(make_step(apart, teacher), memory)
    assert pair[0] == "a~b.0" and pair[2] is not teacher.features["b.1"]
    expected = 0.5 * linear_cka(apart.features["a"], teacher.features["b.0"])
    torch.testing.assert_close(memory.ema, expected)
    for _ in range(5):
        assert policy.teacher_taps(memory) == ("b.0",)
        expected = 0.5 + 0.5 * expected
        policy.pairs(make_step(alike, teacher), memory)
        if expected >= 0.9:
            break
        torch.testing.assert_close(memory.ema, expected)
    assert policy.teacher_taps(memory) == ("b.1",) and memory.ema == 0 and memory.epochs == 0
    ((name, _, _),) = policy.pairs(make_step(apart, teacher), memory)
    assert name == "a~b.1"


def test_it_moves_on_after_the_last_epoch_of_a_block_and_stays_at_the_last_block() -> None:
    teacher, student = features(1, 6, 4), Answer({}, {"a": random(6, 4, seed=9)})
    policy = CkaCurriculum(student="a", blocks=BLOCKS, max_epochs=2)
    memory = policy.prepare(make_setup(student, teacher))
    targets = []
    for epoch in range(7):
        targets.append(policy.teacher_taps(memory))
        policy.pairs(make_step(student, teacher), memory)
        policy.end_epoch(memory, epoch)
    assert targets == [("b.0",), ("b.0",), ("b.1",), ("b.1",), ("b.2",), ("b.2",), ("b.2",)]
    assert policy.teacher_taps(memory) == ("b.2",)


def test_the_teacher_answers_only_the_target_block() -> None:
    """It is cut there: features of other blocks are absent, and not asked for."""
    loss = LOSSES["hint"].model_validate(
        {"layers": {"kind": "cka-curriculum", "student": "a", "blocks": list(BLOCKS), "max_epochs": 1}}
    )
    student = Answer({}, {"a": random(6, 3)})
    teacher = Answer({}, {block: random(6, width, seed=width) for block, width in zip(BLOCKS, (4, 5, 3), strict=True)})
    assert loss.all_teacher_taps() == BLOCKS
    memory = memory_of(loss, student, teacher)
    assert sorted(memory.pairs) == ["a~b/0", "a~b/1"]  # the last one's width is the student's
    for epoch, block in enumerate(BLOCKS):
        assert loss.teacher_taps(memory) == (block,)
        cut = Answer({}, {block: teacher.features[block]})
        assert loss(make_step(student, cut), memory).shape == (6,)
        loss.end_epoch(memory, epoch)


def test_it_snaps_to_the_last_block() -> None:
    teacher, student = features(1, 6, 4), Answer({}, {"a": random(6, 4, seed=9)})
    policy = CkaCurriculum(student="a", blocks=BLOCKS, snap_to_last_at=0.75)
    memory = policy.prepare(make_setup(student, teacher))
    policy.pairs(make_step(student, teacher, progress=0.7), memory)
    assert policy.teacher_taps(memory) == ("b.0",)
    policy.pairs(make_step(student, teacher, progress=0.75), memory)
    assert policy.teacher_taps(memory) == ("b.2",)


def test_alignment_is_that_of_all_processes_and_of_positions_that_count() -> None:
    teacher, student = features(1, 3, 5, 4), Answer({}, {"a": random(3, 5, 4, seed=9)})
    policy = CkaCurriculum(student="a", blocks=BLOCKS, rate=1)
    valid = torch.ones(3, 5, dtype=torch.bool)
    valid[:, 3:] = False
    memory = policy.prepare(make_setup(student, teacher)).double()
    policy.pairs(
        make_step(student, teacher, valid=valid, gather=lambda tensor: torch.cat([tensor, tensor.flip(0)])), memory
    )
    mine, yours = (side[:, :3].flatten(0, 1) for side in (student.features["a"], teacher.features["b.0"]))
    torch.testing.assert_close(memory.ema, linear_cka(mine, yours))
    before = memory.ema.clone()
    policy.pairs(make_step(student, teacher, valid=torch.zeros(3, 5, dtype=torch.bool)), memory)
    assert memory.ema == before  # nothing to look at


def test_maps_of_two_sizes_are_pooled() -> None:
    teacher, student = features(1, 3, 5, 2, 2), Answer({}, {"a": random(3, 4, 4, 4, seed=9)})
    policy = CkaCurriculum(student="a", blocks=BLOCKS, rate=1)
    memory = policy.prepare(make_setup(student, teacher)).double()
    policy.pairs(make_step(student, teacher, valid=torch.ones(3, 4, 4, dtype=torch.bool)), memory)
    pooled = torch.nn.functional.avg_pool2d(student.features["a"], 2)
    rows = [side.permute(0, 2, 3, 1).reshape(12, -1) for side in (pooled, teacher.features["b.0"])]
    torch.testing.assert_close(memory.ema, linear_cka(*rows))


def test_features_that_do_not_correspond_are_refused() -> None:
    student = Answer({}, {"a": random(3, 9, 4)})
    with pytest.raises(InputError, match="sequences of one length"):
        CkaCurriculum(student="a", blocks=BLOCKS).prepare(make_setup(student, features(1, 3, 5, 5)))


def test_its_place_survives_saving() -> None:
    memory = Progress()
    memory.move_to(2)
    memory.ema.fill_(0.5)
    other = Progress()
    other.load_state_dict(memory.state_dict())
    assert int(other.block) == 2 and float(other.ema) == 0.5
