"""Where in the image the teacher counts, learned by a small policy from whether the task loss falls."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from edgekd.losses.step import Setup, Step
from edgekd.losses.weight.difficulty import cell_variance, image_of, laplacian, student_error, teacher_gap
from edgekd.losses.weight.reward import Reward
from edgekd.losses.weight.shared import fitted
from edgekd.losses.weighting import SignalWeight

GRID = 8
BOUND = 4.0  # of the mean before softplus: no place is lost, and no map vanishes


def on_grid(values: Tensor) -> Tensor:
    """Return maps (N, H, W) averaged over the cells of the grid, (N, 8, 8); of other shapes each sample's mean."""
    if values.ndim != 3:
        values = values.reshape(len(values), -1).mean(1)[:, None, None]
    return functional.adaptive_avg_pool2d(values[:, None], GRID)[:, 0]


def standardised(maps: Tensor) -> Tensor:
    """Return maps (N, ..., 8, 8) with mean 0 and deviation 1 over their cells; 0 where all cells are equal."""
    centred = maps - maps.mean((-2, -1), keepdim=True)
    deviation = centred.square().mean((-2, -1), keepdim=True).sqrt()
    return torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), 0.0)


def log_likelihood(sample: Tensor, mean: Tensor, deviation: float) -> Tensor:
    """Return the mean over all cells of log N(m; μ, σ²), without its constant: a scalar with the gradient in μ."""
    return -(sample.detach() - mean).square().mean() / (2 * deviation**2)


def map_entropy(mean: Tensor) -> Tensor:
    """Return the mean entropy of softplus(μ) / Σ softplus(μ) over the cells (N, 8, 8), divided by log 64: 1 if uniform."""
    weight = functional.softplus(mean).flatten(1)
    return torch.special.entr(weight / weight.sum(1, keepdim=True)).sum(1).mean() / math.log(GRID * GRID)


class Policy(nn.Module):
    """Three convolutions from four maps to the mean of the map that softplus makes weights, with what REINFORCE needs.

    It is trained by `learn`, by no other optimizer; Adam's moments and the pending scores are buffers. `made` holds the
    gradients of the log-likelihood and of the entropy at the step just taken, `before` those of the step before, whose
    effect the next task loss shows.
    """

    made: Tensor
    before: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(last.weight)  # the first maps are uniform
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(
            nn.Conv2d(4, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), last
        )
        self.reward = Reward()
        size = sum(parameter.numel() for parameter in self.layers.parameters())
        for name, shape in (("made", (2, size)), ("before", (2, size)), ("first", (size,)), ("second", (size,))):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the mean μ (N, 8, 8), within -4 and 4, of the map at four maps (N, 4, 8, 8)."""
        return BOUND * torch.tanh(self.layers(maps.to(self.made))[:, 0] / BOUND)

    @torch.no_grad()
    def learn(self, task_loss: float, rate: float, bonus: float) -> None:
        """Ascend A ∇ log N + β ∇ entropy of the step before by one step of Adam, A the standardised fall of the loss."""
        advantage = self.reward.advantage(task_loss)
        gradient = advantage * self.before[0] + bonus * self.before[1]
        self.before.copy_(self.made)
        self.steps += 1
        self.first.lerp_(gradient, 0.1)
        self.second.lerp_(gradient.square(), 0.001)
        number = int(self.steps)
        first, second = self.first / (1 - 0.9**number), self.second / (1 - 0.999**number)
        moved = parameters_to_vector(self.layers.parameters()) + rate * first / (second.sqrt() + 1e-8)
        vector_to_parameters(moved, self.layers.parameters())


class SpatialPolicy(SignalWeight):
    """A map of weights drawn from a policy that sees texture, error and gap on an 8 x 8 grid.

    Dropped after training; costs nothing on the device.
    """

    title: ClassVar[str] = "Spatial policy"
    source: ClassVar[str] = "SPARK, arXiv 2606.15243"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = (
        "the reward is the standardised fall of the task loss, the bonus the mean map's entropy, the mean is bounded"
    )
    applies: ClassVar[str] = "losses by position on images: restoration, segmentation, feature maps"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})

    kind: Literal["spatial-policy"] = "spatial-policy"
    output: str | None = Field(default=None, description="the output whose error and gap are seen; not set: the first")
    input: str | None = Field(default=None, description="the image whose texture is seen; not set: the first")
    width: int = Field(default=16, ge=1, description="channels of the policy")
    deviation: float = Field(default=0.1, gt=0, description="σ of the Gaussian that the map is drawn from")
    rate: float = Field(default=1e-3, gt=0, description="learning rate of the policy")
    bonus: float = Field(default=1e-3, ge=0, description="coefficient of the map's entropy")

    def prepare(self, setup: Setup) -> Policy:
        """Return a policy that begins with uniform maps."""
        return Policy(self.width)

    def seen(self, step: Step) -> Tensor:
        """Return Laplacian variance, pixel variance, |ŷ_S - y| and |ŷ_S - ŷ_T| on the grid, standardised: (N, 4, 8, 8)."""
        image = image_of(step, self.input, self.kind)
        texture = laplacian(image)
        grey = image.to(texture.dtype).mean(1)
        error, gap = student_error(step, self.output), teacher_gap(step, self.output)
        maps = [cell_variance(texture, GRID), cell_variance(grey, GRID), on_grid(error), on_grid(gap)]
        return standardised(torch.stack(maps, 1))

    def __call__(self, step: Step, elementwise: Tensor, memory: nn.Module | None = None) -> Tensor:
        """Return a map drawn from the policy, resized to the loss's positions."""
        assert isinstance(memory, Policy)
        with torch.enable_grad():
            mean = memory(self.seen(step))
            generator = step.generator
            noise = torch.randn(mean.shape, generator=generator, device=generator.device if generator else None)
            sample = mean.detach() + self.deviation * noise.to(mean)
            weights = list(memory.layers.parameters())
            scores = [
                parameters_to_vector(torch.autograd.grad(value, weights, retain_graph=True))
                for value in (log_likelihood(sample, mean, self.deviation), map_entropy(mean))
            ]
        memory.made.copy_(step.gather(torch.stack(scores)[None]).mean(0))
        drawn = functional.softplus(sample)
        return fitted(step, drawn / drawn.mean((1, 2), keepdim=True), elementwise)

    def update(self, memory: nn.Module | None, task_loss: float) -> None:
        """Learn from the task loss of this step, taken before its optimizer moved and equal on all processes."""
        assert isinstance(memory, Policy)
        memory.learn(task_loss, self.rate, self.bonus)
