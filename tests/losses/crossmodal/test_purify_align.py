import pytest
import torch
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup, Step
from edgekd.losses.crossmodal.purify_align import Denoiser, Purifier, PurifyAlign, noised

from ..steps import random

TAPS = ("image", "sound")


def made(count: int = 4, classes: int | None = 3, **fields: object) -> tuple[PurifyAlign, Step, Purifier]:
    torch.manual_seed(0)
    loss = PurifyAlign(modalities=TAPS, hidden=16)
    mine = Answer({"output": random(count, 3)}, {"penultimate": random(count, 5, seed=1)})
    features = {"image": random(count, 6, 2, 2, seed=2), "sound": random(count, 6, seed=3)}
    yours = Answer({"output": random(count, 3, seed=4)}, features)
    memory = loss.prepare(Setup(mine, {"t": yours}, samples=count, classes=classes)).double()
    step = Step(mine, {"t": yours}, yours, generator=torch.Generator().manual_seed(0), **fields)  # type: ignore[arg-type]
    return loss, step, memory


def standard(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()


def test_noise_keeps_the_share_of_the_variance() -> None:
    clean, noise = random(3, 4), random(3, 4, seed=1)
    found = noised(clean, noise, torch.tensor([1.0, 0.0, 0.36]).double())
    torch.testing.assert_close(found, torch.stack([clean[0], noise[1], 0.6 * clean[2] + 0.8 * noise[2]]))


def test_the_purified_teacher_is_the_weighted_mean_of_its_modalities() -> None:
    _, step, memory = made()
    with torch.no_grad():
        memory.scores.copy_(torch.tensor([0.0, 2.0]))
    features = torch.stack([step.the_teacher.features["image"].mean((2, 3)), step.the_teacher.features["sound"]])
    share = torch.tensor([0.0, 2.0]).double().softmax(0)
    torch.testing.assert_close(memory.purified(features), standard(share[0] * features[0] + share[1] * features[1]))


def test_an_untrained_denoiser_changes_nothing() -> None:
    noisy = random(3, 6)
    assert torch.equal(Denoiser(6, 8).double()(noisy, random(3, 6, seed=1), random(3).abs()), noisy)
    loss, step, memory = made()
    features = torch.stack([step.the_teacher.features["image"].mean((2, 3)), step.the_teacher.features["sound"]])
    projected = standard(memory.projector(step.student.features["penultimate"]))
    torch.testing.assert_close(loss(step, memory), (projected - standard(features.mean(0))).square().mean(1))


def test_the_refinement_goes_step_by_step_to_less_noise() -> None:
    loss, step, memory = made()
    torch.nn.init.normal_(memory.denoiser.layers[-1].weight, generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    condition = memory.projected(step.student.features["penultimate"])
    refined = condition
    for share in (1 / 3, 2 / 3):
        kept = torch.full((4, 1), share).double()
        refined = refined + memory.denoiser.layers(torch.cat([refined, condition, kept], 1))
    wanted = memory.purified(
        torch.stack([step.the_teacher.features["image"].mean((2, 3)), step.the_teacher.features["sound"]])
    )
    torch.testing.assert_close(loss(step, memory), (refined - wanted).square().mean(1))


def test_the_loss_trains_the_projector_only_and_its_own_loss_all_else() -> None:
    loss, step, memory = made(targets=torch.tensor([0, 1, 2, -1]))
    step.student.features["penultimate"].requires_grad_()
    names = [name for name, _ in memory.named_parameters()]

    def moved(value: torch.Tensor) -> set[str]:
        given = torch.autograd.grad(
            value, [*memory.parameters(), step.student.features["penultimate"]], allow_unused=True
        )
        found = [name for name, one in zip([*names, "student"], given, strict=True) if one is not None]
        return {name.split(".")[0] for name in found}

    assert moved(loss(step, memory).mean()) == {"projector", "student"}
    assert moved(loss.own_loss(step, memory)) == {"scores", "classifier", "denoiser"}


def test_its_own_loss_is_that_of_the_denoiser_and_of_the_classifier() -> None:
    targets, valid = torch.tensor([0, 2, 1, -1]), torch.tensor([True, True, False, True])
    loss, step, memory = made(targets=targets, valid=valid)
    features = torch.stack([step.the_teacher.features["image"].mean((2, 3)), step.the_teacher.features["sound"]])
    clean = memory.purified(features)
    draws = torch.Generator().manual_seed(0)
    noise, kept = torch.randn(4, 6, generator=draws).double(), torch.rand(4, generator=draws).double()
    # the untrained denoiser gives back what is noisy
    expected = functional.mse_loss(noised(clean, noise, kept)[valid], clean[valid])
    assert memory.classifier is not None
    log_p = memory.classifier(clean).log_softmax(1)
    torch.testing.assert_close(loss.own_loss(step, memory), expected - (log_p[0, 0] + log_p[1, 2]) / 2)


@pytest.mark.parametrize("targets", [None, torch.rand(4), torch.zeros(4, 2, 2, dtype=torch.int64)])
def test_without_labels_of_samples_the_denoiser_alone_learns(targets: torch.Tensor | None) -> None:
    loss, step, memory = made(targets=targets)
    (gradient,) = torch.autograd.grad(loss.own_loss(step, memory), memory.scores, allow_unused=True)
    assert gradient is None


def test_a_noisy_modality_fades() -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    features = {"image": 2 * torch.eye(3)[labels] @ torch.randn(3, 6), "sound": 2 * torch.randn(60, 6)}
    mine = Answer({}, {"penultimate": torch.randn(60, 5)})
    yours = Answer({"output": torch.zeros(60, 3)}, features)
    loss = PurifyAlign(modalities=TAPS, hidden=16)
    memory = loss.prepare(Setup(mine, {"t": yours}, samples=60, classes=3))
    optimizer = torch.optim.Adam(memory.parameters(), 0.05)
    step = Step(mine, {"t": yours}, yours, targets=labels, generator=torch.Generator().manual_seed(0))
    for _ in range(60):
        optimizer.zero_grad()
        loss.own_loss(step, memory).backward()
        optimizer.step()
    share = memory.scores.softmax(0)
    assert share[0] > 0.8


def test_the_denoiser_learns_to_restore_from_the_student_s_feature() -> None:
    """The teacher's feature is a linear map of the student's: the condition says what the noise hides."""
    torch.manual_seed(0)
    student = torch.randn(128, 6)
    yours = Answer({}, {"penultimate": student @ torch.randn(6, 6)})
    loss = PurifyAlign(hidden=32)
    mine = Answer({}, {"penultimate": student})
    memory = loss.prepare(Setup(mine, {"t": yours}, samples=128))
    step = Step(mine, {"t": yours}, yours, generator=torch.Generator().manual_seed(0))
    before = loss.own_loss(step, memory).item(), loss(step, memory).mean().item()
    optimizer = torch.optim.Adam(memory.parameters(), 0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss.own_loss(step, memory).backward()
        optimizer.step()
    with torch.no_grad():
        after = loss.own_loss(step, memory).item(), loss(step, memory).mean().item()
    assert after[0] < before[0] / 3
    assert after[1] < before[1] / 2, "the student's feature is refined towards the teacher's, though it stood still"


def test_features_of_unlike_width_are_refused() -> None:
    yours = Answer({}, {"image": random(2, 6), "sound": random(2, 7)})
    mine = Answer({}, {"penultimate": random(2, 5)})
    with pytest.raises(InputError, match=r"'image': 6, 'sound': 7"):
        PurifyAlign(modalities=TAPS).prepare(Setup(mine, {"t": yours}, samples=2))


def test_a_modality_is_needed() -> None:
    with pytest.raises(ValueError, match="modalities"):
        PurifyAlign(modalities=())
