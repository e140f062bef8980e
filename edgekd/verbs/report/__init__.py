"""What a report holds: a run's own report, what its files keep, and what other commands measured of them."""

from edgekd.verbs.report.content import Content, TargetContent, gather

__all__ = ["Content", "TargetContent", "gather"]
