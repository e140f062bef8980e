"""What edgekd's profiler measures for so long: `python profiled.py MODEL RUNTIME SECONDS`.

The median of a call; of a runtime with a clock of its own what lies inside of that, as the runtime's own tools print it.
"""

import sys
from pathlib import Path

import numpy as np

from edgekd.device.inside import inside_runtime
from edgekd.device.latency import measure
from edgekd.device.runtimes import open_session

session = open_session(sys.argv[2], Path(sys.argv[1]))
feeds = {
    one.name: np.random.rand(*(size if isinstance(size, int) else 1 for size in one.shape)).astype(np.float32)
    for one in session.inputs
}
p50_ms = measure(lambda: session.run(feeds), duration_s=float(sys.argv[3]), precision=-1.0).p50_ms
inside = inside_runtime(session, feeds, p50_ms)
print(p50_ms if inside is None else inside["p50_ms"])
