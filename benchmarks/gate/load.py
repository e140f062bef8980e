"""A busy process on one core: it computes for 0.05 to 1 s, rests for up to 0.6 s, and so on. Arguments: core, seed."""

import os
import random
import sys
import time


def main(core: int, seed: int) -> None:
    """Compute and rest until this process, or the one that started it, is ended."""
    parent = os.getppid()
    os.sched_setaffinity(0, {core})
    generator = random.Random(seed)
    while os.getppid() == parent:
        until = time.monotonic() + generator.uniform(0.05, 1.0)
        while time.monotonic() < until:
            sum(number * number for number in range(2000))
        time.sleep(generator.uniform(0.0, 0.6))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
