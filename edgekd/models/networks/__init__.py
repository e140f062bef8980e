"""Our own definitions of the field's standard small networks, for examples, tests and benchmarks.

Every network can be built without arguments, by its name on the command line: `NETWORKS["ds-cnn"]()`.
"""

from torch import nn

from edgekd.models.networks.autoencoder import Autoencoder
from edgekd.models.networks.ds_cnn import DsCnn
from edgekd.models.networks.gru import GruClassifier
from edgekd.models.networks.mobilenet_v1 import MobileNetV1
from edgekd.models.networks.mobilenet_v2 import InvertedResidual, MobileNetV2
from edgekd.models.networks.resnet8 import ResidualBlock, ResNet8
from edgekd.models.networks.unet import UNet
from edgekd.models.networks.vit import SelfAttention, TransformerBlock, ViT

__all__ = ["NETWORKS", "TRUSTED"]

NETWORKS: dict[str, type[nn.Module]] = {
    "resnet8": ResNet8,
    "ds-cnn": DsCnn,
    "mobilenet-v1": MobileNetV1,
    "mobilenet-v2": MobileNetV2,
    "unet": UNet,
    "vit": ViT,
    "gru": GruClassifier,
    "autoencoder": Autoencoder,
}

# Every module class of this folder: the safe loader accepts these in a model file.
TRUSTED: tuple[type[nn.Module], ...] = (
    ResidualBlock,
    ResNet8,
    DsCnn,
    MobileNetV1,
    InvertedResidual,
    MobileNetV2,
    UNet,
    SelfAttention,
    TransformerBlock,
    ViT,
    GruClassifier,
    Autoencoder,
)
