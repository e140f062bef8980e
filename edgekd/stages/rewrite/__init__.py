"""Rewrites: the same function, or nearly, by fewer or other operators; each verified and timed."""

from edgekd.stages.rewrite.settings import RewriteSettings
from edgekd.stages.rewrite.stage import STAGE

__all__ = ["STAGE", "RewriteSettings"]
