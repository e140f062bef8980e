"""Weights of groups or modalities, learned from whether the task loss falls."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgekd.errors import InputError
from edgekd.losses.step import Setup, Step
from edgekd.losses.weight.reward import Reward
from edgekd.losses.weight.shared import array_of
from edgekd.losses.weighting import SignalWeight

LIMIT = math.log(5)  # no group is lost: one that turns good again can be found


class GroupWeights(nn.Module):
    """Weights w = G softmax(θ + σ ε) of G groups, learned by perturbing them; all state is in buffers.

    θ moves by η A ε / σ, the score of a Gaussian policy over log weights, with A the standardised fall of the task loss: an
    exponentiated gradient step. The noise comes from a counter, so all processes of a run draw the same.
    """

    theta: Tensor
    noise: Tensor
    noise_before: Tensor
    present: Tensor
    present_before: Tensor
    count: Tensor

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.reward = Reward()
        for name in ("theta", "noise", "noise_before", "present", "present_before"):
            self.register_buffer(name, torch.zeros(groups))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def weights(self, spread: float) -> Tensor:
        """Return the weights (G,) now in use, with a mean of 1."""
        return len(self.theta) * torch.softmax(self.theta + spread * self.noise, 0)

    @torch.no_grad()
    def learn(self, task_loss: float, rate: float, spread: float, seed: int) -> None:
        """Move towards the noise of the step before if the loss fell more than usual, away from it if less."""
        advantage = self.reward.advantage(task_loss)
        self.theta += rate * advantage * self.noise_before * self.present_before / spread
        self.theta -= self.theta.mean()
        self.theta.clamp_(-LIMIT, LIMIT)
        self.noise_before.copy_(self.noise)
        self.present_before.copy_(self.present)
        self.present.zero_()
        self.count += 1
        generator = torch.Generator().manual_seed(seed * 1_000_003 + int(self.count))
        self.noise.copy_(torch.randn(len(self.noise), generator=generator, dtype=torch.float64))


class MetaLearned(SignalWeight):
    """A weight a group, learned from the task loss; a corrupted group is weighted down.

    Groups are the batch's group ids, or an array of the data set: ids (N,), or memberships (N, G) such as a mask of the
    modalities present, whose weights are averaged.
    """

    title: ClassVar[str] = "Meta-learned group weights"
    source: ClassVar[str] = "PTA (purify, then align), arXiv 2604.05584, meta-learned modality weights"
    evidence: ClassVar[str] = "D"
    variant: ClassVar[str] = (
        "log weights learned by REINFORCE from the fall of the task loss, not by differentiating through a step"
    )
    applies: ClassVar[str] = "data with groups, sites or modalities; hundreds of steps"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher", "batch"})

    kind: Literal["meta-learned"] = "meta-learned"
    groups: int = Field(default=4, ge=2, description="number of groups; ids go from 0")
    group: str | None = Field(
        default=None, description="array with ids (N,) or memberships (N, G); not set: the group ids"
    )
    rate: float = Field(default=0.02, gt=0, le=1, description="η, step size of the log weights")
    spread: float = Field(default=0.5, gt=0, le=2, description="σ, deviation of the noise on the log weights")
    seed: int = Field(default=0, ge=0, description="of the noise; give two such weights in one recipe different ones")

    def prepare(self, setup: Setup) -> GroupWeights:
        """Return equal weights, to be learned."""
        return GroupWeights(self.groups)

    def __call__(self, step: Step, elementwise: Tensor, memory: nn.Module | None = None) -> Tensor:
        """Return the weight of every sample (N,), the mean over the groups it belongs to.

        Raises:
            InputError: groups are missing or do not fit.
        """
        assert isinstance(memory, GroupWeights)
        member = self.membership(step).to(memory.theta)
        memory.present.copy_(torch.maximum(memory.present, (step.gather(member) > 0).any(0).to(memory.present)))
        return member @ memory.weights(self.spread) / member.sum(-1).clamp(min=torch.finfo(member.dtype).tiny)

    def membership(self, step: Step) -> Tensor:
        """Return (N, G), above 0 where a sample belongs to a group."""
        if self.group is None and step.groups is None:
            raise InputError(f"{self.kind}: the data set has no group ids; add them, or name an array with `group`")
        found = (
            step.groups if self.group is None else array_of(step, self.group, self.kind, "the groups of every sample")
        )
        assert found is not None
        if found.ndim == 2 and found.shape[1] == self.groups:
            return found.detach()
        if found.ndim != 1 or int(found.min()) < 0 or int(found.max()) >= self.groups:
            raise InputError(
                f"{self.kind}: groups are ids from 0 to {self.groups - 1}, or memberships (N, {self.groups}); found the shape "
                f"{tuple(found.shape)} with values from {float(found.min()):g} to {float(found.max()):g}; set `groups`"
            )
        return functional.one_hot(found.detach().long(), self.groups)

    def update(self, memory: nn.Module | None, task_loss: float) -> None:
        """Learn from the task loss of this step, taken before its optimizer moved and equal on all processes."""
        assert isinstance(memory, GroupWeights)
        memory.learn(task_loss, self.rate, self.spread, self.seed)
