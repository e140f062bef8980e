"""The catalogue of distillation losses: pure functions, one file an idea."""

from edgekd.losses.temperature_kl import temperature_kl

__all__ = ["temperature_kl"]
