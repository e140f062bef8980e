"""Structured pruning: whole channels are removed along the dependency graph."""

from edgekd.stages.prune.settings import PruneSettings
from edgekd.stages.prune.stage import STAGE

__all__ = ["STAGE", "PruneSettings"]
