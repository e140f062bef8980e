"""Data sets made of random numbers, the same for the same seed: `--data edgekd.data.synthetic:shapes_seg`."""

from edgekd.data.synthetic.shapes import shapes_seg
from edgekd.data.synthetic.views import two_view, two_view_shuffled

__all__ = ["shapes_seg", "two_view", "two_view_shuffled"]
