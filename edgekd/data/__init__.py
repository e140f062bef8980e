"""Data sets and their four parts."""

from edgekd.data.dataset import Dataset, Part
from edgekd.data.parts import Parts, split
from edgekd.data.sources import load_dataset

__all__ = ["Dataset", "Part", "Parts", "load_dataset", "split"]
