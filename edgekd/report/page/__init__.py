"""The report of a run as one HTML page: no script, nothing from the network."""

from edgekd.report.page.page import render

__all__ = ["render"]
