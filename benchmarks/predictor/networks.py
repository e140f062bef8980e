"""The networks that the predictor is tried on here: `python benchmarks/predictor/networks.py FOLDER`.

Writes each as `<name>.onnx`, and as `<name>.int8.onnx` in the form that `edgekd quantize` writes for generic-x86. Weights are
random: how long a network takes does not depend on what it has learned. Needs torchvision and timm beside edgekd.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from edgekd.device.runtimes import open_session
from edgekd.models.networks.autoencoder import Autoencoder
from edgekd.models.networks.ds_cnn import DsCnn
from edgekd.models.networks.mobilenet_v1 import MobileNetV1
from edgekd.models.networks.mobilenet_v2 import MobileNetV2
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.models.networks.unet import UNet
from edgekd.models.onnx_graph import at_batch, graph_inputs
from edgekd.models.qdq_graph import exposing
from edgekd.models.signature import Signature, TensorSpec
from edgekd.stages.export.onnx_writer import write_onnx
from edgekd.stages.quantize.executors.onnxruntime import write_int8
from edgekd.stages.quantize.linear_layers import as_gemm
from edgekd.stages.quantize.preparation import prepare
from edgekd.target import load_target


@dataclass(frozen=True)
class Network:
    """One network: the family that is held out together, its input without the batch, and what builds it."""

    name: str
    family: str
    shape: tuple[int, ...]
    build: Callable[[], nn.Module]


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options)

    return build


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, exportable=True, **options)

    return build


def _image(size: int) -> tuple[int, ...]:
    return (3, size, size)


# The form of the model was chosen on these alone ...
DEVELOPMENT = (
    Network("resnet8-32", "resnet8", _image(32), ResNet8),
    Network("resnet8-wide-64", "resnet8", _image(64), lambda: ResNet8((32, 64, 128))),
    Network("ds-cnn", "ds-cnn", (1, 49, 10), DsCnn),
    Network("ds-cnn-wide", "ds-cnn", (1, 49, 10), lambda: DsCnn(width=172)),
    Network("mobilenet-v1-0.25-96", "mobilenet-v1", _image(96), MobileNetV1),
    Network("mobilenet-v1-1.0-160", "mobilenet-v1", _image(160), lambda: MobileNetV1(1.0, 1000)),
    Network("mobilenet-v2-0.5-128", "mobilenet-v2", _image(128), lambda: MobileNetV2(0.5)),
    Network("mobilenet-v2-1.0-224", "mobilenet-v2", _image(224), MobileNetV2),
    Network("unet-96", "unet", _image(96), UNet),
    Network("autoencoder", "autoencoder", (640,), Autoencoder),
    Network("resnet18-224", "resnet", _image(224), _torchvision("resnet18")),
    Network("resnet18-128", "resnet", _image(128), _torchvision("resnet18")),
    Network("resnet50-160", "resnet", _image(160), _torchvision("resnet50")),
    Network("vgg11-128", "vgg", _image(128), _torchvision("vgg11_bn")),
    Network("squeezenet1.1-224", "squeezenet", _image(224), _torchvision("squeezenet1_1")),
    Network("squeezenet1.0-160", "squeezenet", _image(160), _torchvision("squeezenet1_0")),
    Network("densenet121-160", "densenet", _image(160), _torchvision("densenet121")),
    Network("shufflenet-v2-1.0-224", "shufflenet", _image(224), _torchvision("shufflenet_v2_x1_0")),
    Network("efficientnet-b0-160", "efficientnet", _image(160), _torchvision("efficientnet_b0")),
    Network("efficientnet-b0-224", "efficientnet", _image(224), _torchvision("efficientnet_b0")),
    Network("mnasnet-0.5-192", "mnasnet", _image(192), _torchvision("mnasnet0_5")),
    Network("regnet-y-400mf-160", "regnet", _image(160), _torchvision("regnet_y_400mf")),
    Network("vit-tiny-160", "vit", _image(160), _timm("vit_tiny_patch16_224", img_size=160)),
    Network("convnext-atto-128", "convnext", _image(128), _timm("convnext_atto")),
)
# ... and these were predicted once it stood.
TEST = (
    Network("googlenet-160", "googlenet", _image(160), _torchvision("googlenet", aux_logits=False, init_weights=False)),
    Network("googlenet-224", "googlenet", _image(224), _torchvision("googlenet", aux_logits=False, init_weights=False)),
    Network("mobilenet-v3-small-224", "mobilenet-v3", _image(224), _torchvision("mobilenet_v3_small")),
    Network("mobilenet-v3-large-192", "mobilenet-v3", _image(192), _torchvision("mobilenet_v3_large")),
    Network("resnext50-128", "resnext", _image(128), _torchvision("resnext50_32x4d")),
    Network("wide-resnet50-128", "wide-resnet", _image(128), _torchvision("wide_resnet50_2")),
    Network("alexnet-224", "alexnet", _image(224), _torchvision("alexnet")),
    Network("ghostnet-224", "ghostnet", _image(224), _timm("ghostnet_100")),
    Network("repvgg-a0-160", "repvgg", _image(160), _timm("repvgg_a0")),
    Network("mobilenet-v4-small-224", "mobilenet-v4", _image(224), _timm("mobilenetv4_conv_small")),
    Network("fbnet-c-160", "fbnet", _image(160), _timm("fbnetc_100")),
    Network("lcnet-1.0-224", "lcnet", _image(224), _timm("lcnet_100")),
    Network("hardcorenas-a-192", "hardcorenas", _image(192), _timm("hardcorenas_a")),
    Network("efficientnet-lite0-224", "efficientnet-lite", _image(224), _timm("efficientnet_lite0")),
    Network("dla34-128", "dla", _image(128), _timm("dla34")),
    Network("hrnet-w18-small-160", "hrnet", _image(160), _timm("hrnet_w18_small")),
    Network("res2net50-128", "res2net", _image(128), _timm("res2net50_26w_4s")),
    Network("vovnet19-dw-160", "vovnet", _image(160), _timm("ese_vovnet19b_dw")),
    Network("selecsls42-160", "selecsls", _image(160), _timm("selecsls42b")),
    Network("deit-small-112", "deit", _image(112), _timm("deit_small_patch16_224", img_size=112)),
)
NETWORKS = (*DEVELOPMENT, *TEST)


def write_float(network: Network, path: Path) -> None:
    """Write a network with random weights as ONNX."""
    torch.manual_seed(0)
    signature = Signature(
        inputs=(TensorSpec(name="image", shape=("batch", *network.shape)),),
        outputs=(TensorSpec(name="output", shape=("batch", 1)),),
    )
    write_onnx(network.build().eval(), signature, path)


def write_quantized(source: Path, path: Path) -> None:
    """Write the int8 form of a float file, with the ranges that activations have on eight random inputs."""
    scheme = load_target("generic-x86")[0].runtime["onnxruntime"].quantization
    assert scheme is not None
    prepared = as_gemm(prepare(source, path.with_suffix(".prepared")), ())
    watched = path.with_suffix(".watched")
    names = [name for node in prepared.graph.node for name in node.output if name]
    onnx.save(exposing(at_batch(prepared, 1), names), str(watched))
    session = open_session("onnxruntime", watched)
    value = graph_inputs(prepared)[0]
    shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]
    random = np.random.default_rng(0)
    ranges: dict[str, tuple[float, float]] = {}
    for _ in range(8):
        feeds = {value.name: random.standard_normal((1, *shape), dtype=np.float32)}
        for name, found in (feeds | session.run(feeds)).items():
            if found.dtype == np.float32:
                low, high = ranges.get(name, (0.0, 0.0))
                ranges[name] = (min(low, float(found.min())), max(high, float(found.max())))
    write_int8(prepared, ranges, [], scheme, (), path)
    watched.unlink()
    path.with_suffix(".prepared").unlink()


def main() -> None:
    """Write what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for network in NETWORKS:
        source, quantized = folder / f"{network.name}.onnx", folder / f"{network.name}.int8.onnx"
        try:
            if not source.exists():
                write_float(network, source)
            if not quantized.exists():
                write_quantized(source, quantized)
        except Exception as error:  # one network that a version of timm lacks must not cost the others
            print(f"{network.name}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        print(network.name, flush=True)


if __name__ == "__main__":
    main()
