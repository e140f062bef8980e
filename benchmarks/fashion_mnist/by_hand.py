"""The same artifact written by hand, with the bare libraries and nothing of edgekd's pipeline.

What an engineer would write in an afternoon: prune with Torch-Pruning, train eight epochs towards the original network,
export with torch, quantize with ONNX Runtime, score before and after. `run.py` times it against `edgekd compress`.
"""

import argparse
import gzip
import os
import time
import warnings
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime
import torch
import torch_pruning as tp
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

DATA = Path("/usr/share/datasets/fashion-mnist")
EPOCHS, BATCH, LEARNING_RATE, TEMPERATURE, ALPHA, SHARE = 8, 128, 0.1, 4.0, 0.7, 0.3


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Read images (N, 1, 28, 28) as bytes and labels (N,)."""
    images = np.frombuffer(gzip.decompress((DATA / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((DATA / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return images.reshape(-1, 1, 28, 28), labels.astype(np.int64)


def normalize(images: np.ndarray) -> np.ndarray:
    """Return float32 images as the network wants them."""
    return ((images.astype(np.float32) / 255) - 0.286) / 0.353


def macs(model: torch.nn.Module) -> float:
    """Return the multiply-accumulates of one image."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, 1, 28, 28))
    return counter.get_total_flops() / 2


def prune(model: torch.nn.Module) -> None:
    """Remove channels until 30 % of the MACs are left."""
    wanted = SHARE * macs(model)
    pruner = tp.pruner.BasePruner(
        model, torch.zeros(2, 1, 28, 28), importance=tp.importance.GroupMagnitudeImportance(p=2), global_pruning=True,
        pruning_ratio=0.98, max_pruning_ratio=0.75, iterative_steps=50, ignored_layers=[model.classifier], round_to=16,
    )  # fmt: skip
    for _ in range(50):
        if macs(model) <= wanted:
            break
        pruner.step()


def distill(student: torch.nn.Module, teacher: torch.nn.Module, images: np.ndarray, labels: np.ndarray) -> None:
    """Train towards the teacher's softened answers."""
    student.to(memory_format=torch.channels_last).train()
    teacher.to(memory_format=torch.channels_last).eval()
    steps = len(images) // BATCH
    optimizer = torch.optim.SGD(student.parameters(), LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=EPOCHS * steps, pct_start=0.2, cycle_momentum=False
    )
    targets = torch.from_numpy(labels)
    for epoch in range(EPOCHS):
        order = np.random.permutation(len(images))
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            x = torch.from_numpy(normalize(images[batch]))
            flip = torch.rand(len(x)) < 0.5
            x = torch.where(flip[:, None, None, None], x.flip(-1), x)
            top, left = torch.randint(0, 5, (2,)).tolist()
            x = functional.pad(x, (2, 2, 2, 2), mode="replicate")[:, :, top : top + 28, left : left + 28]
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    wanted = teacher(x)
                logits = student(x)
            kl = functional.kl_div(
                (logits.float() / TEMPERATURE).log_softmax(1), (wanted.float() / TEMPERATURE).log_softmax(1),
                reduction="batchmean", log_target=True,
            )  # fmt: skip
            loss = (1 - ALPHA) * functional.cross_entropy(logits.float(), targets[batch]) + ALPHA * TEMPERATURE**2 * kl
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)
    student.to(memory_format=torch.contiguous_format).eval()


def export(model: torch.nn.Module, path: Path) -> None:
    """Write an ONNX file with a free batch."""
    torch.onnx.export(
        model, (torch.zeros(2, 1, 28, 28),), str(path), dynamo=True, verbose=False, external_data=False, input_names=["image"],
        output_names=["output"], dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},), opset_version=20,
    )  # fmt: skip


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of an ONNX file in percent."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    hits = sum(
        int((session.run(None, {"image": normalize(images[i : i + 100])})[0].argmax(1) == labels[i : i + 100]).sum())
        for i in range(0, len(images), 100)
    )
    return 100 * hits / len(images)


class Reader(CalibrationDataReader):
    """Feed calibration images in batches."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches = iter(normalize(images[i : i + 32]) for i in range(0, len(images), 32))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None."""
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


def quantize(source: Path, folder: Path, calibration: np.ndarray, images: np.ndarray, labels: np.ndarray) -> Path:
    """Quantize with three calibrators, the stem left in float; keep the best on the validation images."""
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    stem = next(node.name for node in onnx.load(str(prepared)).graph.node if node.op_type == "Conv")
    scores = {}
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Percentile, CalibrationMethod.Entropy):
        path = folder / f"{method.name}.onnx"
        quantize_static(
            str(prepared), str(path), Reader(calibration), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method, nodes_to_exclude=[stem],
        )  # fmt: skip
        scores[path] = accuracy(path, images, labels)
    return max(scores, key=lambda path: scores[path])


def main() -> None:
    """Do it all and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    start = time.monotonic()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    np.random.seed(0)
    images, labels = load("train")
    test_images, test_labels = load("t10k")
    order = np.random.permutation(len(images))
    validation, calibration, train = order[:3000], order[3000:3512], order[3512:]
    teacher = torch.load(arguments.model, weights_only=False).eval()
    student = torch.load(arguments.model, weights_only=False).eval()
    export(teacher, arguments.folder / "baseline.onnx")
    before = accuracy(arguments.folder / "baseline.onnx", test_images, test_labels)
    prune(student)
    distill(student, teacher, images[train], labels[train])
    export(student, arguments.folder / "float.onnx")
    best = quantize(
        arguments.folder / "float.onnx", arguments.folder, images[calibration], images[validation], labels[validation]
    )
    after = accuracy(best, test_images, test_labels)
    size = best.stat().st_size / 1000
    print(f"{best.name}: accuracy {before:.2f} -> {after:.2f} %, {size:.1f} kB, {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
