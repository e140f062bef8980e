"""The published measurements and the networks they are of, as the benchmarks read them."""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from edgekd.predict.features import Kernel

HERE = Path(__file__).parent
FAMILIES = {  # of networks that a designer scaled, or that share their blocks
    "yolo26": "yolo26", "yolo11": "yolo11", "yolov8": "yolov8", "resnet": "resnet", "wide_resnet": "resnet",
    "squeezenet": "squeezenet", "mobilenet_v1": "mobilenet-v1", "mobilenet_v2": "mobilenet-v2",
    "mobilenet_v3": "mobilenet-v3", "efficientnet": "efficientnet", "googlenet": "googlenet", "vgg": "vgg",
    "retinanet": "retinanet",
}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """What one set of coefficients is for."""

    board: str
    runtime: str
    precision: str
    harness: str
    threads: str

    def __str__(self) -> str:
        """Return the key in words."""
        threads = f", {self.threads} thread{'s' if self.threads != '1' else ''}" if self.threads else ""
        return f"{self.board}, {self.runtime}, {self.precision}, {self.harness}{threads}"


@dataclass(frozen=True)
class Row:
    """One published latency of a network that could be rebuilt."""

    model: str
    family: str
    ms: float
    kernels: tuple[Kernel, ...]
    source: str


def family_of(model: str) -> str:
    """Return the family that a model belongs to."""
    return next(family for start, family in FAMILIES.items() if model.startswith(start))


def architecture(model: str, precision: str) -> tuple[Kernel, ...] | None:
    """Return the kernels of a network in this precision, or None where it was not rebuilt."""
    path = HERE / "architectures" / f"{model}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    kernels = [Kernel(**dict(zip(content["fields"], row, strict=True)), width="fp32") for row in content["kernels"]]
    return tuple(kernel.stored_as(precision) for kernel in kernels)  # type: ignore[arg-type]


def read_published() -> dict[Key, list[Row]]:
    """Return the latencies that can be fitted, by what they are of: p50 or mean, none that is suspect, networks rebuilt."""
    found: dict[Key, list[Row]] = defaultdict(list)
    with (HERE / "published.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            kernels = architecture(row["model"], row["precision"])
            if kernels is None or row["unit"] != "ms" or "p90" in row["metric"] or row["note"].startswith("suspect"):
                continue
            key = Key(row["board"], row["runtime"], row["precision"], row["harness"], row["threads"])
            found[key].append(Row(row["model"], family_of(row["model"]), float(row["value"]), kernels, row["source"]))
    return dict(found)
