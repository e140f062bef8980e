import pytest
import torch

from edgekd.errors import InputError
from edgekd.losses import Answer, Setup
from edgekd.losses.feature.frequency_focal import FrequencyFocal, frequency_focal


def test_it_is_the_weighted_distance_of_discrete_fourier_transforms() -> None:
    student, teacher = torch.randn(1, 1, 3, 4, dtype=torch.float64), torch.randn(1, 1, 3, 4, dtype=torch.float64)
    rows, columns = (
        torch.exp(-2j * torch.pi * torch.outer(torch.arange(size).double(), torch.arange(size).double()) / size)
        for size in (3, 4)
    )
    spectrum = rows @ (student - teacher)[0, 0].to(torch.complex128) @ columns / 12**0.5
    weight = spectrum.abs() / spectrum.abs().max()
    expected = (weight * spectrum.abs() ** 2).mean()
    torch.testing.assert_close(frequency_focal(student, teacher)[0], expected)


def test_without_focus_it_is_the_mean_square_error() -> None:
    student, teacher = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    expected = (student - teacher).pow(2).mean((1, 2, 3))
    torch.testing.assert_close(frequency_focal(student, teacher, alpha=0.0), expected)


def test_the_gradient_takes_the_weight_as_given() -> None:
    student = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(frequency_focal(student, teacher).sum(), student)
    spectrum = torch.fft.fft2((student - teacher).detach(), norm="ortho")
    expected = torch.fft.ifft2(spectrum.abs() / spectrum.abs().max() * spectrum, norm="ortho").real * 2 / 16
    torch.testing.assert_close(gradient, expected)


def test_the_worst_frequency_dominates() -> None:
    time = torch.arange(16) / 16 * 2 * torch.pi
    error = (torch.cos(time) + 0.1 * torch.cos(5 * time)).expand(1, 1, 16, 16).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(frequency_focal(error, torch.zeros(1, 1, 16, 16)).sum(), error)
    amplitude = torch.fft.rfft(gradient[0, 0, 0]).abs()
    torch.testing.assert_close(amplitude[5] / amplitude[1], torch.tensor(0.01), atol=1e-4, rtol=0)


def test_vectors_are_refused() -> None:
    vector = Answer({}, {"penultimate": torch.randn(2, 3)})
    with pytest.raises(InputError, match="is no map"):
        FrequencyFocal().prepare(Setup(vector, {"t": vector}, 2))
