"""Write the set: scikit-learn's copy of the 1,797 test images of UCI's digits, cut in their order into training and test."""

import gzip
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits  # pip install scikit-learn

HERE = Path(__file__).parent
COUNT = 1_297  # the writers come one after another, so the last 500 images are mostly of writers of their own

images, labels = load_digits(return_X_y=True)
for kind, whole in (("images-idx3", images.reshape(-1, 8, 8)), ("labels-idx1", labels)):
    for name, part in (("train", whole[:COUNT]), ("test", whole[COUNT:])):
        header = struct.pack(f">HBB{part.ndim}I", 0, 8, part.ndim, *part.shape)
        packed = gzip.compress(header + part.astype(np.uint8).tobytes(), compresslevel=9, mtime=0)
        (HERE / f"{name}-{kind}-ubyte.gz").write_bytes(packed)
