"""The bundled networks: shapes, sizes, the trust list, and export."""

import importlib
import math
import os
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.models import networks
from edgekd.models.networks import NETWORKS, TRUSTED
from edgekd.models.networks.autoencoder import Autoencoder
from edgekd.models.networks.mobilenet_v1 import MobileNetV1
from edgekd.models.networks.mobilenet_v2 import MobileNetV2
from edgekd.models.networks.resnet8 import ResNet8
from edgekd.models.networks.unet import UNet
from edgekd.models.networks.vit import ViT

# Input and output shapes of the default networks, without the batch.
SHAPES = {
    "resnet8": ((3, 32, 32), (10,)),
    "ds-cnn": ((1, 49, 10), (12,)),
    "mobilenet-v1": ((3, 96, 96), (2,)),
    "mobilenet-v2": ((3, 224, 224), (1000,)),
    "unet": ((3, 32, 48), (2, 32, 48)),
    "vit": ((3, 32, 32), (10,)),
    "gru": ((49, 10), (12,)),
    "autoencoder": ((640,), (640,)),
}
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU)


def build(name: str) -> tuple[nn.Module, Tensor]:
    """Return a default network in eval mode with batch-norm statistics that matter, and an input of two samples."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval(), torch.randn(2, *SHAPES[name][0])


def deployed_parameters(model: nn.Module) -> int:
    """Count what is left once batch norms are folded: weights, and one bias an output channel."""
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    return sum(layer.weight.numel() + layer.weight.shape[0] for layer in layers)


def parameters(model: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_network_has_a_shape_here() -> None:
    """A new network must be added to this test."""
    assert list(SHAPES) == list(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_shape(name: str) -> None:
    """The default network takes and gives the documented shapes."""
    model, x = build(name)
    with torch.no_grad():
        y = model(x)
    assert y.shape == (2, *SHAPES[name][1])
    assert y.isfinite().all()


@pytest.mark.parametrize(
    ("model", "input_shape", "output_shape"),
    [
        (ResNet8((8, 16), num_classes=5, in_channels=1, blocks_per_width=2), (1, 28, 28), (5,)),
        (MobileNetV1(0.5, num_classes=7, in_channels=1), (1, 64, 64), (7,)),
        (MobileNetV2(0.35, num_classes=7), (3, 64, 64), (7,)),
        (UNet((8, 24), num_classes=4, in_channels=1), (1, 6, 10), (4, 6, 10)),
        (ViT(image_size=28, patch_size=7, dim=32, depth=2, heads=2, num_classes=5, in_channels=1), (1, 28, 28), (5,)),
        (Autoencoder(in_features=32, hidden=16, bottleneck=4), (32,), (32,)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_configured_shape(model: nn.Module, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
    """Widths, classes and channels can be chosen."""
    with torch.no_grad():
        assert model.eval()(torch.randn(2, *input_shape)).shape == (2, *output_shape)


# Counted from the int8 files of the MLPerf Tiny repository, where batch norms are folded and every layer has a bias.
@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet8", 77_706), ("ds-cnn", 22_604), ("mobilenet-v1", 210_850), ("autoencoder", 265_864)],
)
def test_parameters_are_those_of_mlperf_tiny(name: str, expected: int) -> None:
    """The deployed network has exactly the reference's size."""
    assert deployed_parameters(NETWORKS[name]()) == expected


# Multiply-accumulates of the convolutions and the classifier, counted from the same files.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet8", 12_501_632),
        ("ds-cnn", 2_656_768),
        ("mobilenet-v1", 7_489_664),
        ("autoencoder", 264_192),
    ],
)
def test_work_is_that_of_mlperf_tiny(name: str, expected: int) -> None:
    """Strides and paddings give every layer the reference's resolution."""
    model, x = build(name)
    work = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal work
        work += output[0].numel() * math.prod(module.weight.shape[1:])

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(x[:1])
    assert work == expected


def test_mobilenet_v2_parameters() -> None:
    """At width 1 the count is the one that everybody quotes, batch norms included."""
    assert parameters(MobileNetV2()) == 3_504_872


def test_trusted_lists_every_module_class_of_the_folder() -> None:
    """A class that is missing could not be loaded; one that is too many would be trusted by mistake."""
    found = set()
    for info in pkgutil.iter_modules(networks.__path__):
        module = importlib.import_module(f"{networks.__name__}.{info.name}")
        found |= {
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
        }
    assert set(TRUSTED) == found
    assert len(TRUSTED) == len(found)
    assert set(NETWORKS.values()) <= found


@pytest.mark.parametrize("name", NETWORKS)
def test_every_activation_module_runs_once(name: str) -> None:
    """An instance used twice could not become a spiking neuron with a state of its own."""
    model, x = build(name)
    calls = {path: 0 for path, module in model.named_modules() if isinstance(module, ACTIVATIONS)}

    def counter(path: str):
        def count(*_: object) -> None:
            calls[path] += 1

        return count

    for path in calls:
        module = model.get_submodule(path)
        assert not getattr(module, "inplace", False)
        module.register_forward_hook(counter(path))
    with torch.no_grad():
        model(x)
    assert set(calls.values()) <= {1}


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_export_parity(name: str) -> None:
    """The exported graph, with any batch, computes what the module computes."""
    model, x = build(name)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    x = torch.randn(3, *x.shape[1:])
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x), model(x), atol=1e-5, rtol=1e-5)


# MobileNetV2 exports too; it is left out for its size.
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "mobilenet-v2"])
def test_onnx_parity(name: str, tmp_path: Path) -> None:
    """ONNX Runtime computes from the written file what torch computes."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    model, x = build(name)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (x,), path, dynamo=True, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(output, model(x).numpy(), rtol=1e-4, atol=1e-4)
