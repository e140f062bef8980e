"""What a report holds: a run's own report, what its files keep, and what other commands measured of them."""

from edgekd.verbs.report.content import Content, TargetContent, gather
from edgekd.verbs.report.page_file import check_page_file

__all__ = ["Content", "TargetContent", "check_page_file", "gather"]
