"""The device half: opens, checks, runs and profiles an artifact with Python 3.10, numpy and the runtime only.

It travels inside every artifact as `run.pyz` and imports nothing else of edgekd, so the host and the board use the same
code.
"""
