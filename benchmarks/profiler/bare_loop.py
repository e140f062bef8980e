"""The median of ONNX Runtime calls, as a person would write it without any tool: `python bare_loop.py MODEL SECONDS`."""

import os
import statistics
import sys
import time

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = {
    one.name: np.random.rand(*(size if isinstance(size, int) else 1 for size in one.shape)).astype(np.float32)
    for one in session.get_inputs()
}
for _ in range(20):
    session.run(None, feeds)
times = []
end = time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    began = time.perf_counter()
    session.run(None, feeds)
    times.append(time.perf_counter() - began)
print(1e3 * statistics.median(times))
