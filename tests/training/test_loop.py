import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.context import Context
from edgekd.data import Dataset, Part
from edgekd.errors import InputError, StageError
from edgekd.models.signature import Signature, TensorSpec
from edgekd.request import Request, prepare
from edgekd.training.fresh import fresh
from edgekd.training.history import History
from edgekd.training.keeper import Keeper
from edgekd.training.loop import training_part
from edgekd.training.settings import batch_size

from .conftest import BOTH, ONLY_TASK, SETTINGS, phase, weights

Teach = Callable[..., History]
KL = phase({"kind": "kl", "temperature": 4})


def test_same_seed_same_weights_other_seed_other_weights(context: Context, trained: nn.Module, teach: Teach) -> None:
    def run(seed: int) -> torch.Tensor:
        student = copy.deepcopy(trained)
        teach(
            student, BOTH, teacher=copy.deepcopy(trained), augmentations=("shift",), context=replace(context, seed=seed)
        )
        return weights(student)

    first = run(0)
    assert torch.equal(first, run(0))
    assert not torch.equal(first, run(1))


def test_a_student_gets_closer_to_its_teacher(trained: nn.Module, teach: Teach) -> None:
    history = teach(
        fresh(trained), KL, teacher=copy.deepcopy(trained), settings=SETTINGS.model_copy(update={"epochs": 3})
    )
    assert history.loss[-1] < 0.7 * history.loss[0]


def test_every_term_is_told(trained: nn.Module, teach: Teach) -> None:
    twice = phase({"kind": "kl", "weight": 0.5}, {"kind": "kl", "weight": 2, "direction": "reverse"}, task=0.3)
    history = teach(fresh(trained), twice, teacher=copy.deepcopy(trained))
    (terms,) = history.terms
    assert set(terms) == {"task", "kl-1", "kl-2"}
    assert sum(terms.values()) == pytest.approx(history.loss[0], rel=1e-5)


def test_the_teacher_stays_as_it_was(trained: nn.Module, teach: Teach) -> None:
    teacher = copy.deepcopy(trained)
    before = weights(teacher)
    teach(copy.deepcopy(trained), BOTH, teacher=teacher)
    assert torch.equal(before, weights(teacher))


def test_the_network_comes_back_on_the_cpu_in_eval_mode(trained: nn.Module, teach: Teach) -> None:
    student = copy.deepcopy(trained)
    teach(student, ONLY_TASK)
    assert not student.training and next(student.parameters()).is_contiguous()


def test_divergence_names_the_term_and_keeps_the_last_weights(
    context: Context, trained: nn.Module, teach: Teach, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    wild = SETTINGS.model_copy(update={"learning_rate": 1e9, "clip_gradient": None, "epochs": 3, "decay": "constant"})
    with pytest.raises(StageError, match=r"gradient of task is not finite in epoch \d; lower learning_rate"):
        teach(copy.deepcopy(trained), ONLY_TASK, settings=wild, context=replace(context, checkpoint=checkpoint))


def test_the_good_epochs_before_a_divergence_are_kept(
    context: Context, trained: nn.Module, teach: Teach, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    steady, breaking = phase(task=1.0, name="steady"), phase(task=1.0, name="breaking", learning_rate=1e30)
    settings = SETTINGS.model_copy(update={"clip_gradient": None})
    with pytest.raises(StageError, match="the weights after epoch 1 are kept in"):
        teach(
            copy.deepcopy(trained), steady, breaking, settings=settings, context=replace(context, checkpoint=checkpoint)
        )
    kept = torch.load(checkpoint, weights_only=True)
    assert kept["phase"] == 0 and all(torch.isfinite(one).all() for one in kept["objective"].values())


def test_one_sample_cannot_be_trained_on(context: Context, trained: nn.Module, teach: Teach) -> None:
    with pytest.raises(StageError, match="1 training samples are too few"):
        teach(copy.deepcopy(trained), ONLY_TASK, part=context.parts.train.take(1))


def test_unlabelled_data_suffice_to_distill(trained: nn.Module, fashion: Dataset, teach: Teach) -> None:
    unlabelled = Dataset(inputs={"image": fashion.inputs["image"]})
    context = prepare(Request(trained, ("generic-x86",), data=unlabelled, threads=1)).contexts[0]
    assert context.metric.name == "agreement" and context.parts.train.targets is None
    history = teach(
        fresh(trained), BOTH, teacher=copy.deepcopy(trained), context=context, part=context.parts.train.take(128)
    )
    assert np.isfinite(history.loss).all() and set(history.terms[0]) == {"kl"}


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_a_handful_of_steps_is_enough(context: Context, trained: nn.Module, steps: int, teach: Teach) -> None:
    student = copy.deepcopy(trained)
    settings = SETTINGS.model_copy(update={"batch_size": 16})
    teach(student, ONLY_TASK, part=context.parts.train.take(16 * steps), settings=settings)
    assert not torch.equal(weights(student), weights(trained)) and torch.isfinite(weights(student)).all()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("momentum", (0.5, 0.9)),
        ("optimizer", ("sgd", "adamw")),
        ("decay", ("one-cycle", "cosine", "constant")),
        ("ema", (None, 0.9)),
        ("mixup", (0.0, 0.5)),
        ("clip_gradient", (None, 0.01)),
    ],
)
def test_every_setting_counts(
    context: Context, trained: nn.Module, teach: Teach, name: str, values: tuple[Any, ...]
) -> None:
    made = []
    for value in values:
        student = copy.deepcopy(trained)
        settings = SETTINGS.model_copy(update={name: value})
        history = teach(student, ONLY_TASK, part=context.parts.train.take(256), settings=settings)
        assert np.isfinite(history.loss).all()
        made.append(weights(student))
    assert all(not torch.equal(made[0], other) for other in made[1:])


def test_the_average_of_the_weights_is_kept(context: Context, trained: nn.Module, teach: Teach) -> None:
    """With a decay of nearly 1 the average stays where the first step left it."""
    part = context.parts.train.take(256)
    slow, plain = copy.deepcopy(trained), copy.deepcopy(trained)
    teach(slow, ONLY_TASK, part=part, settings=SETTINGS.model_copy(update={"ema": 0.999999}))
    teach(plain, ONLY_TASK, part=part)
    start = weights(trained)
    assert (weights(slow) - start).norm() < (weights(plain) - start).norm()


class _Killed(Exception):
    pass


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_killed_training_goes_on_bit_for_bit(
    context: Context,
    trained: nn.Module,
    teach: Teach,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ema: float | None,
) -> None:
    two = (phase({"kind": "gkl"}, {"kind": "hint"}, task=0.3, name="first"), phase("kl", task=0.3, name="second"))
    settings = SETTINGS.model_copy(update={"epochs": 2, "ema": ema})
    given: dict[str, Any] = {"settings": settings, "part": context.parts.train.take(256), "augmentations": ("shift",)}

    def run(here: Context) -> tuple[torch.Tensor, History]:
        student = copy.deepcopy(trained)
        history = teach(student, *two, teacher=fresh_teacher(trained), context=here, **given)
        return weights(student), history

    whole, told = run(context)
    here = replace(context, checkpoint=tmp_path / "checkpoint.pt")
    end_epoch = Keeper.end_epoch
    for after in (1, 2):  # within the second phase, and within the first
        left = [after]

        def killed(self: Keeper, epoch: int, left: list[int] = left) -> bool:
            stop = end_epoch(self, epoch)
            left[0] -= 1
            if not left[0]:
                raise _Killed
            return stop

        with monkeypatch.context() as patched:
            patched.setattr(Keeper, "end_epoch", killed)
            with pytest.raises(_Killed):
                run(here)
    again, retold = run(here)
    assert torch.equal(whole, again)
    assert retold.loss == told.loss and retold.terms == told.terms and retold.phases == told.phases


def fresh_teacher(trained: nn.Module) -> nn.Module:
    torch.manual_seed(9)
    return fresh(trained).eval()


def test_a_damaged_checkpoint_is_said(context: Context, trained: nn.Module, teach: Teach, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(StageError, match="cannot read the checkpoint"):
        teach(copy.deepcopy(trained), ONLY_TASK, context=replace(context, checkpoint=path))


def test_training_stops_when_validation_gets_no_better(context: Context, trained: nn.Module, teach: Teach) -> None:
    """The best weights are kept, not the last ones."""
    scores, seen = iter([50.0, 70.0, 60.0, 65.0, 99.0]), []
    student = copy.deepcopy(trained)

    def score(network: nn.Module) -> tuple[float, bool]:
        seen.append(weights(network))
        return next(scores), True

    settings = SETTINGS.model_copy(update={"epochs": 9, "patience": 2})
    history = teach(student, ONLY_TASK, part=context.parts.train.take(256), settings=settings, score=score)
    assert history.validation == [50.0, 70.0, 60.0, 65.0] and history.stopped is not None
    assert torch.equal(weights(student), seen[1])


def test_a_phase_that_stopped_early_is_not_trained_further_after_a_kill(
    context: Context, trained: nn.Module, teach: Teach, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 6, "patience": 1})
    here = replace(context, checkpoint=tmp_path / "checkpoint.pt")
    first, second = phase(task=1.0, name="first"), phase(task=1.0, name="second")
    made: list[nn.Module] = []
    for killed in (False, True):
        student, scores = copy.deepcopy(trained), iter([60.0, 50.0, 70.0, 40.0, 30.0, 20.0])

        def score(network: nn.Module, scores: Any = scores, killed: bool = killed) -> tuple[float, bool]:
            value = next(scores)
            if value == 70.0 and killed:
                raise KeyboardInterrupt
            return value, True

        given = {"part": context.parts.train.take(256), "settings": settings, "context": here}
        if killed:
            with pytest.raises(KeyboardInterrupt):
                teach(student, first, second, score=score, **given)
            student, rest = copy.deepcopy(trained), iter([70.0, 40.0])
            history = teach(student, first, second, score=lambda network, rest=rest: (next(rest), True), **given)
            assert history.phases == ["first", "first", "second", "second"]
        else:
            teach(student, first, second, score=score, **given)
            (tmp_path / "checkpoint.pt").unlink()
        made.append(student)
    assert torch.equal(weights(made[0]), weights(made[1]))


def test_a_frozen_module_keeps_its_weights_and_statistics(trained: nn.Module, teach: Teach) -> None:
    student = copy.deepcopy(trained)
    names = [name for name, _ in student.named_children()]
    held, free = names[0], names[-1]
    teach(student, phase(task=1.0, freeze=[held]))
    for name in (held, free):
        before, after = trained.get_submodule(name).state_dict(), student.get_submodule(name).state_dict()
        same = all(torch.equal(before[key], after[key]) for key in before)
        assert same == (name == held)
    assert all(parameter.requires_grad for parameter in student.parameters())
    with pytest.raises(InputError, match="no module `nothing`"):
        teach(student, phase(task=1.0, freeze=["nothing"]))
    with pytest.raises(InputError, match="everything is frozen"):
        teach(student, phase(task=1.0, freeze=names))


def test_masked_weights_stay_zero(trained: nn.Module, teach: Teach) -> None:
    student = copy.deepcopy(trained)
    layer = next(module for module in student.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        mask = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5
        layer.weight[mask] = 0
    dense = copy.deepcopy(student)
    teach(student, ONLY_TASK)
    teach(dense, ONLY_TASK, settings=SETTINGS.model_copy(update={"keep_sparsity": False}))
    other = next(module for module in dense.modules() if isinstance(module, nn.Conv2d))
    assert (layer.weight[mask] == 0).all() and (layer.weight[~mask] != 0).all()
    assert (other.weight[mask] != 0).any()


def test_what_becomes_zero_before_a_step_stays_zero(trained: nn.Module, teach: Teach) -> None:
    student = copy.deepcopy(trained)
    layer = next(module for module in student.modules() if isinstance(module, nn.Conv2d))
    seen = []

    def one_more(network: nn.Module, progress: float) -> None:
        assert network is student and (layer.weight.detach().flatten()[: len(seen)] == 0).all()
        seen.append(progress)
        with torch.no_grad():
            layer.weight.view(-1)[len(seen) - 1] = 0

    teach(student, ONLY_TASK, before_step=one_more)
    assert seen == sorted(seen) and seen[0] == 0 and 0.8 < seen[-1] < 1
    assert (layer.weight.flatten()[: len(seen)] == 0).all() and layer.weight.flatten()[len(seen) :].all()


def test_gradients_of_groups_are_filtered(context: Context, trained: nn.Module, teach: Teach) -> None:
    part = context.parts.train.take(192)
    grouped = replace(part, dataset=replace(part.dataset, groups=np.arange(len(part.dataset)) % 3))
    made = []
    for threshold in (None, "agreement-mask"):
        student = copy.deepcopy(trained)
        teach(student, phase(task=1.0, gradient_filter=threshold), part=grouped)
        made.append(weights(student))
    assert not torch.equal(*made) and torch.isfinite(made[1]).all()


def test_only_normal_samples_train_a_detector_of_anomalies() -> None:
    targets = np.arange(20) % 2
    data = Dataset({"x": np.zeros((20, 4), np.float32)}, targets=targets)
    signature = Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),), task="anomaly")
    part = Part(data, np.arange(20), signature)
    assert training_part(part).indices.tolist() == list(range(0, 20, 2))
    assert training_part(replace(part, dataset=replace(data, targets=None))).indices.tolist() == list(range(20))
    assert (
        training_part(replace(part, signature=signature.model_copy(update={"task": "regression"}))).indices.size == 20
    )


@pytest.mark.parametrize(("samples", "size"), [(1000, 64), (256, 64), (100, 25), (9, 2), (3, 2)])
def test_few_samples_are_trained_in_smaller_batches(samples: int, size: int) -> None:
    assert batch_size(SETTINGS, samples) == size


class Norm(nn.Module):
    """Its norm of a sample of zeros has no gradient: the loss is finite, the gradient is not."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 2, 28, bias=False), nn.Linear(2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body(x).flatten(1)
        return self.head(features) + features.square().sum(1, keepdim=True).sqrt()


def test_a_gradient_that_is_not_finite_names_the_term_and_is_no_step(
    context: Context, trained: nn.Module, teach: Teach
) -> None:
    train = context.parts.train
    images = train.dataset.inputs["image"].copy()
    images[train.indices[3]] = 0
    part = replace(train, dataset=replace(train.dataset, inputs={"image": images}, augmentations=()))
    plain = replace(part, signature=part.signature.model_copy(update={"preprocessing": None}))
    student = Norm()
    with pytest.raises(StageError, match=r"the gradient of task, kl is not finite in epoch 1; lower learning_rate"):
        teach(student, BOTH, teacher=trained, part=plain)
    assert all(torch.isfinite(parameter).all() for parameter in student.parameters())
