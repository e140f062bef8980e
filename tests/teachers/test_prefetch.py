import threading
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from edgekd.errors import InputError, StageError
from edgekd.losses.step import Answer
from edgekd.teachers import PrefetchedTeacher
from edgekd.teachers.prefetch import Staleness

from .helpers import Network, batch_of, make_part


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def load(ids: Tensor) -> Mapping[str, Tensor]:
    return batch_of(make_part(), ids.tolist())[0]


def ask(teacher: PrefetchedTeacher, ids: list[int], **other: object) -> Answer:
    inputs, sample_ids = batch_of(make_part(), ids)
    return teacher.answer(inputs, sample_ids=sample_ids, **other)  # type: ignore[arg-type]


def live(ids: list[int]) -> Tensor:
    return Network().answer(batch_of(make_part(), ids)[0], sample_ids=None).output()


def test_what_was_expected_is_served_without_asking() -> None:
    network, clock = Network(), Clock()
    with PrefetchedTeacher(network, load, max_age_s=10, clock=clock) as teacher:
        teacher.expect(torch.tensor([3, 4, 5]))
        teacher.wait()
        clock.now += 4
        answer = ask(teacher, [5, 3, 9, 9])
        assert network.batches == [3, 2]
        torch.testing.assert_close(answer.output(), live([5, 3, 9, 9]))
        clock.now += 2
        ask(teacher, [4])
        assert teacher.staleness() == Staleness(mean_age=(4 + 4 + 6) / 3, max_age=6, hit_rate=3 / 5, stale=0)
        teacher.expect(torch.tensor([3, 4]))  # at hand already
        teacher.wait()
        assert network.batches == [3, 2]


def test_what_is_too_old_is_made_again() -> None:
    network, clock = Network(), Clock()
    with PrefetchedTeacher(network, load, max_age_s=10, clock=clock) as teacher:
        teacher.expect(torch.tensor([0, 1]))
        teacher.wait()
        clock.now += 10
        ask(teacher, [0])
        clock.now += 0.5
        ask(teacher, [0, 1])
        assert network.batches == [2, 2] and teacher.staleness().stale == 2
        assert teacher.staleness().max_age == 10
        teacher.expect(torch.tensor([0, 1]))
        teacher.wait()
        assert network.batches == [2, 2, 2]


def test_answers_of_a_teacher_that_has_changed_are_stale() -> None:
    network = Network()
    with PrefetchedTeacher(network, load, max_age_s=1e9) as teacher:
        teacher.expect(torch.tensor([0]))
        teacher.wait()
        network.seed = 1
        torch.nn.init.zeros_(network.head.weight)
        answer = ask(teacher, [0])
        assert torch.equal(answer.output()[0], network.head.bias.detach())
        assert teacher.staleness() == Staleness(0, 0, 0, stale=1) and teacher.identity == network.identity


def test_features_are_answered_ahead_where_they_were_announced() -> None:
    network = Network()
    with PrefetchedTeacher(network, load, max_age_s=1e9, taps=("hidden",)) as teacher:
        teacher.expect(torch.tensor([0, 1]))
        teacher.wait()
        assert ask(teacher, [1], taps=("hidden",), outputs_wanted=False).outputs == {}
        assert ask(teacher, [1, 0], taps=("hidden",)).features["hidden"].shape == (2, 8)
        assert network.batches == [2]
        assert "other" in ask(teacher, [1], taps=("other",)).features
        assert network.batches == [2, 1] and teacher.live_features
        assert teacher.kept(torch.tensor([0])) is None


def test_the_oldest_make_room() -> None:
    network = Network()
    with PrefetchedTeacher(network, load, max_age_s=1e9, capacity=2) as teacher:
        for one in range(3):
            teacher.expect(torch.tensor([one]))
        teacher.wait()
        ask(teacher, [1, 2])
        assert network.batches == [1, 1, 1]
        ask(teacher, [0])
        assert network.batches == [1, 1, 1, 1]


def test_a_batch_in_work_is_waited_for_and_not_made_twice() -> None:
    network, begun, go_on = Network(), threading.Event(), threading.Event()

    class Slow(Network):
        def answer(self, inputs: Mapping[str, Tensor], **other: object) -> Answer:  # type: ignore[override]
            begun.set()
            assert go_on.wait(30)
            return network.answer(inputs, **other)  # type: ignore[arg-type]

    with PrefetchedTeacher(Slow(), load, max_age_s=1e9) as teacher:
        teacher.expect(torch.tensor([0, 1]))
        assert begun.wait(30)
        threading.Timer(0.05, go_on.set).start()
        torch.testing.assert_close(ask(teacher, [0, 1]).output(), live([0, 1]))
    assert network.batches == [2]


def test_a_failure_in_the_background_is_shown() -> None:
    def missing(ids: Tensor) -> Mapping[str, Tensor]:
        raise InputError("no such samples")

    with PrefetchedTeacher(Network(), missing, max_age_s=1) as teacher:
        teacher.expect(torch.tensor([0]))
        with pytest.raises(StageError, match="fails in the background: no such samples"):
            teacher.wait()
        torch.testing.assert_close(ask(teacher, [0]).output(), live([0]))


def test_samples_of_other_data_are_answered_live() -> None:
    network = Network()
    with PrefetchedTeacher(network, load, max_age_s=1) as teacher:
        teacher.answer(batch_of(make_part(), [0, 1])[0], sample_ids=None)
    assert network.batches == [2] and not teacher._thread.is_alive()
