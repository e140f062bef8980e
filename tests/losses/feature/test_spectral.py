import math

import pytest
import torch
from torch import Tensor

from edgekd.errors import InputError
from edgekd.losses import LOSSES
from edgekd.losses.feature.spectral import Spectral, magnitude_loss, phase_loss, spectrum

from ..steps import Answer, make_setup, make_step, random

TIME = torch.arange(64) / 64
BAND = torch.tensor([9.0, 10.0, 11.0])[:, None]


def test_they_are_the_card_s_formulas_with_angles() -> None:
    mine, yours = spectrum(random(2, 3, 10, seed=1)), spectrum(random(2, 3, 10, seed=2))
    for sample in range(2):
        magnitudes, phases, loudness = 0.0, 0.0, 0.0
        for channel in range(3):
            for bin_ in range(6):
                a, b = complex(mine[sample, channel, bin_]), complex(yours[sample, channel, bin_])
                magnitudes += abs(math.log(1 + abs(a)) - math.log(1 + abs(b))) / 18
                turn = math.atan2(a.imag, a.real) - math.atan2(b.imag, b.real)
                phases += abs(b) * (1 - math.cos(turn))
                loudness += abs(b)
        assert math.isclose(float(magnitude_loss(mine, yours)[sample]), magnitudes, rel_tol=1e-9)
        assert math.isclose(float(phase_loss(mine, yours)[sample]), phases / loudness, rel_tol=1e-9)


def test_magnitude_ignores_phase_and_phase_ignores_magnitude() -> None:
    teacher = (2 * math.pi * 5 * TIME).cos().double()[None, None]
    shifted = torch.roll(teacher, 7, -1)
    assert magnitude_loss(spectrum(shifted), spectrum(teacher)).abs() < 1e-9
    assert phase_loss(spectrum(shifted), spectrum(teacher)) > 0.5
    assert phase_loss(spectrum(0.1 * teacher), spectrum(teacher)).abs() < 1e-9
    assert magnitude_loss(spectrum(0.1 * teacher), spectrum(teacher)) > 0.01


def test_a_silent_student_gets_a_bounded_gradient() -> None:
    student = torch.zeros(1, 2, 16, requires_grad=True)
    loss = phase_loss(spectrum(student), spectrum(random(1, 2, 16, dtype=torch.float32)))
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert torch.isfinite(gradient).all() and gradient.abs().max() < 1e4
    assert phase_loss(spectrum(student), spectrum(torch.zeros(1, 2, 16))) == 0


def test_it_lowers_the_phase_error_of_the_dominant_band_further_than_mse_alone() -> None:
    """A student of sinusoids with learned amplitudes and phases; Adam's steps do not depend on the size of the loss."""
    amplitudes = torch.tensor([0.5, 1.0, 0.5])[:, None]

    def wave(size: Tensor, phases: Tensor) -> Tensor:
        return (size * (2 * math.pi * BAND * TIME + phases).cos()).sum(-2)

    def error_after(with_spectral: bool) -> float:
        generator = torch.Generator().manual_seed(0)
        teacher = wave(amplitudes, 2 * math.pi * torch.rand(32, 1, 3, 1, generator=generator))
        phases = (2 * math.pi * torch.rand(32, 1, 3, 1, generator=generator)).requires_grad_()
        size = torch.ones(32, 1, 3, 1, requires_grad=True)
        optimizer = torch.optim.Adam([size, phases], 0.05)
        step = make_step(Answer({}), Answer({}))
        for _ in range(60):
            student = wave(size, phases)
            loss = (student - teacher).square().mean()
            if with_spectral:
                loss = loss + Spectral().compare(student, teacher, step, None).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        turn = spectrum(wave(size, phases)) * spectrum(teacher).conj()
        return float(turn[..., 9:12].angle().abs().mean().detach())

    assert error_after(with_spectral=True) < 0.5 * error_after(with_spectral=False)


def test_maps_have_both_frequencies() -> None:
    picture = random(2, 3, 6, 8)
    assert spectrum(picture).shape == (2, 3, 6, 5)
    torch.testing.assert_close(spectrum(picture), torch.fft.rfft2(picture))
    moved = torch.roll(picture, (1, 2), (2, 3))
    assert magnitude_loss(spectrum(moved), spectrum(picture)).max() < 1e-9


@pytest.mark.parametrize(
    ("mine", "yours"), [((3, 4, 16), (3, 6, 16)), ((3, 4, 16), (3, 4, 8)), ((3, 4, 6, 6), (3, 5, 3, 3))]
)
def test_channels_are_projected_and_sizes_pooled(mine: tuple[int, ...], yours: tuple[int, ...]) -> None:
    loss = LOSSES["spectral"](taps={"a": "b"})
    student, teacher = Answer({}, {"a": random(*mine)}), Answer({}, {"b": random(*yours, seed=1)})
    memory = loss.prepare(make_setup(student, teacher))
    assert memory is not None
    value = loss(make_step(student, teacher), memory.double())
    assert value.shape == (3,) and torch.isfinite(value).all()


def test_vectors_have_no_spectrum() -> None:
    student = Answer({}, {"penultimate": random(3, 4)})
    with pytest.raises(InputError, match="give series"):
        Spectral().prepare(make_setup(student, student))
