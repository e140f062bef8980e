"""The networks of published measurements, rebuilt to count their kernels: `python benchmarks/predictor/rebuild.py`.

Writes `architectures/<name>.json`: what each kernel computes and moves at batch 1, as edgekd counts it off the exported graph.
Weights are random. Needs torchvision, timm and ultralytics (AGPL, so in an environment of its own; nothing of it is kept but
these counts) beside edgekd.

Networks that a table names loosely are taken as follows: ncnn's `squeezenet` is version 1.1 on 227 x 227; `googlenet` is
torchvision's, which has 3 x 3 filters where Caffe's has 5 x 5; `mobilenet_v3` is the large one; MLPerf's RetinaNet has a
ResNeXt-50 and 264 classes and is counted up to its heads' raw outputs.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from edgekd.predict.features import kernels_of

HERE = Path(__file__).parent
YOLO = {"yolo11": "nsmlx", "yolo26": "nsmlx", "yolov8": "n"}
KEPT = (
    *("name", "operator", "macs", "operations", "exponentials", "reads", "writes", "weights", "inputs", "outputs"),
    *("positions", "window", "stride", "groups"),
)


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options)

    return build


def _mobilenet_v1() -> nn.Module:
    import timm

    return timm.create_model("mobilenetv1_100", pretrained=False)


class _RawRetinaNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnext50_32x4d
        from torchvision.models.detection import RetinaNet
        from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
        from torchvision.ops.feature_pyramid_network import LastLevelP6P7

        body = _resnet_fpn_extractor(
            resnext50_32x4d(weights=None), 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256)
        )
        self.network = RetinaNet(body, num_classes=264)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        head = self.network.head(list(self.network.backbone(image).values()))
        return head["cls_logits"], head["bbox_regression"]


def _yolo(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from ultralytics.nn.tasks import DetectionModel

        model = DetectionModel(f"{name}.yaml", verbose=False).eval().fuse(verbose=False)
        head = model.model[-1]
        head.export, head.format, head.dynamic = True, "onnx", False
        return model

    return build


NETWORKS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "resnet18": (224, _torchvision("resnet18")),
    "resnet50": (224, _torchvision("resnet50")),
    "wide_resnet50_2": (224, _torchvision("wide_resnet50_2")),
    "googlenet": (224, _torchvision("googlenet", aux_logits=False, init_weights=False)),
    "squeezenet1_0": (224, _torchvision("squeezenet1_0")),
    "squeezenet1_1": (227, _torchvision("squeezenet1_1")),
    "mobilenet_v1": (224, _mobilenet_v1),
    "mobilenet_v2": (224, _torchvision("mobilenet_v2")),
    "mobilenet_v3": (224, _torchvision("mobilenet_v3_large")),
    "efficientnet_b0": (224, _torchvision("efficientnet_b0")),
    "vgg16": (224, _torchvision("vgg16")),
    "retinanet": (800, _RawRetinaNet),
    **{f"{name}{size}": (640, _yolo(f"{name}{size}")) for name, sizes in YOLO.items() for size in sizes},
}


def count(module: nn.Module, size: int, folder: Path) -> dict[str, Any]:
    """Return input size and kernels of a network, counted off its exported graph."""
    path = folder / "model.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        image = torch.zeros(1, 3, size, size)
        module.eval()(image)
        torch.onnx.export(module, (image,), str(path), dynamo=False, opset_version=17, input_names=["image"])
    kernels = [{key: asdict(one)[key] for key in KEPT} for one in kernels_of(onnx.load(str(path)))]
    return {"input": size, "fields": list(KEPT), "kernels": [list(one.values()) for one in kernels]}


def main() -> None:
    """Write the tables that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), help="default: all")
    (HERE / "architectures").mkdir(exist_ok=True)
    for name in parser.parse_args().names:
        size, build = NETWORKS[name]
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            found = count(build(), size, Path(folder))
        rows = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in found.pop("kernels"))
        text = f'{{\n "input": {found["input"]},\n "fields": {json.dumps(found["fields"])},\n "kernels": [\n  {rows}\n ]\n}}\n'
        (HERE / "architectures" / f"{name}.json").write_text(text, encoding="utf-8")
        print(name, found["input"], flush=True)


if __name__ == "__main__":
    main()
