"""Write the shipped part of the training images: the first 12,000 of the package's file, and copy the test files."""

import gzip
import shutil
import struct
from pathlib import Path

from edgekd.data.idx import read_idx

SOURCE = Path("/usr/share/datasets/fashion-mnist")  # apt-get install dataset-fashion-mnist
HERE = Path(__file__).parent
COUNT = 12_000

for kind, rank in (("images-idx3", 3), ("labels-idx1", 1)):
    shutil.copyfile(SOURCE / f"t10k-{kind}-ubyte.gz", HERE / f"t10k-{kind}-ubyte.gz")
    part = read_idx(SOURCE / f"train-{kind}-ubyte.gz")[:COUNT]
    header = struct.pack(f">HBB{rank}I", 0, 8, rank, *part.shape)
    packed = gzip.compress(header + part.tobytes(), compresslevel=9, mtime=0)
    (HERE / f"train-{COUNT}-{kind}-ubyte.gz").write_bytes(packed)
