"""A sidecar `model.toml` as commented TOML, filled with what a model file itself tells."""

import json
from collections.abc import Sequence
from pathlib import Path

from edgekd.errors import InputError
from edgekd.models.loading import archive_inputs, detect_format, load_onnx
from edgekd.models.onnx_graph import graph_signature
from edgekd.models.signature import TensorSpec

HEAD = """\
# The sidecar of {model}: what the network takes, how its answers are judged, and the data it goes with.
# edgekd reads it by its name and place: beside the model. A line that begins with # is not set.

task = "classification"  # or regression, segmentation, anomaly, embedding, tokens, detection
# metric = "accuracy"      # by default the task's own: accuracy, mse, miou, auc, recall, token-accuracy, sqnr
# data = "images"          # an image folder or .npz beside this file, or a set of calibration/ such as fashion-mnist
# data_origin = "https://example.org/photos"  # who made them; stands in the report
# data_licence = "CC-BY-4.0"  # SPDX identifier; where it is an open one, some samples go into the artifact
# origin = "https://example.org/net"  # whose the network is, and its licence (SPDX): its answers bear them as a teacher
# licence = "Apache-2.0"
# labels = ["cat", "dog"]  # the classes, in the order of the network's outputs
"""
PREPROCESSING = """\
# What the network expects to have been done to raw bytes: (x * scale - mean) / std, one value or one a channel.
# Without it, data of bytes go in as they are.
# [preprocessing]
# scale = 0.00392156862745098  # 1 / 255
# mean = [0.0]
# std = [1.0]
"""


def file_inputs(model: Path) -> tuple[TensorSpec, ...]:
    """Return the inputs that a model file itself tells (ONNX, `.pt2`), or nothing.

    Raises:
        InputError: it is no model file, or a damaged one.
    """
    if detect_format(model) == "onnx":
        return graph_signature(load_onnx(model)).inputs
    return archive_inputs(model)


def commented(model: Path) -> str:
    """Return a sidecar for a model file; what the file does not tell is a commented placeholder.

    Raises:
        InputError: it is no model file, or a damaged one.
    """
    specs = file_inputs(model)
    if specs:
        inputs = "# What the file itself says that it takes.\n" + _tables(specs)
    else:
        inputs = (
            "# The file does not say what it takes: fill this in, one table an input.\n"
            '# [[inputs]]\n# name = "image"\n# shape = ["batch", 3, 224, 224]  # the batch, then the sizes\n'
            '# dtype = "float32"\n'
        )
    return "\n".join([HEAD.format(model=model.name), inputs, PREPROCESSING])


def _tables(specs: Sequence[TensorSpec]) -> str:
    return "\n".join(
        f"[[inputs]]\nname = {json.dumps(spec.name, ensure_ascii=False)}\nshape = {json.dumps(list(spec.shape))}\n"
        f"dtype = {json.dumps(spec.dtype)}\n"
        for spec in specs
    )


def sidecar_path(model: Path) -> Path:
    """Return where a model's sidecar goes: the one that is read if there is one, else `<stem>.toml`.

    Raises:
        InputError: the name is that of the recipe.
    """
    for path in (model.with_suffix(".toml"), model.with_name("model.toml")):
        if path.exists():
            return path
    if model.stem == "recipe":
        raise InputError(f"{model.name}: its sidecar would be recipe.toml; rename the model")
    return model.with_suffix(".toml")
