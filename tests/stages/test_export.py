from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgekd.artifact import parity
from edgekd.device.batches import run_all
from edgekd.device.runtimes import open_session
from edgekd.errors import InputError, StageError
from edgekd.models.network import count_macs, learn_outputs
from edgekd.models.networks import NETWORKS
from edgekd.models.onnx_graph import count_macs as onnx_macs
from edgekd.models.onnx_graph import count_parameters, fixed_batch, graph_signature, named_nodes, preprocess_inside
from edgekd.models.precision import precision_of
from edgekd.models.signature import Preprocessing, Signature, TensorSpec
from edgekd.recipe import ExportSettings
from edgekd.stages.export import EXPORTERS
from edgekd.stages.export.onnx_writer import IR_VERSION, write_onnx

IMAGE = Signature(
    inputs=(TensorSpec(name="image", shape=("batch", 1, 28, 28)),),
    preprocessing=Preprocessing(scale=1 / 255, mean=(0.286,), std=(0.353,)),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, trained: nn.Module) -> tuple[Path, Signature]:
    signature = learn_outputs(trained, IMAGE)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(trained, signature, path)
    return path, signature


def test_one_file_of_the_agreed_versions_with_a_free_batch(written: tuple[Path, Signature]) -> None:
    path, signature = written
    model = onnx.load(str(path))
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
    assert model.ir_version <= IR_VERSION
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20
    assert fixed_batch(model) is None
    assert graph_signature(model).inputs == signature.inputs


def test_the_written_file_answers_like_the_network_for_any_batch(
    written: tuple[Path, Signature], trained: nn.Module
) -> None:
    session = open_session("onnxruntime", written[0], 1)
    for batch in (1, 5):
        x = torch.randn(batch, 1, 28, 28)
        with torch.no_grad():
            np.testing.assert_allclose(session.run({"image": x.numpy()})["output"], trained(x).numpy(), atol=1e-4)


def test_nothing_but_the_network_is_in_the_file(written: tuple[Path, Signature]) -> None:
    model = onnx.load(str(written[0]))
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    assert any(node.op_type == "GlobalAveragePool" for node in model.graph.node)
    assert not model.metadata_props and not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert b"site-packages" not in written[0].read_bytes() and b".py" not in written[0].read_bytes()


def test_the_exporter_is_silent_and_repeatable(
    trained: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    signature = learn_outputs(trained, IMAGE)
    for name in ("a", "b"):
        write_onnx(trained, signature, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("opset", [18, 21])
def test_another_opset_is_written_when_the_runtime_wants_it(trained: nn.Module, tmp_path: Path, opset: int) -> None:
    write_onnx(trained, learn_outputs(trained, IMAGE), tmp_path / "m.onnx", opset=opset)
    assert {entry.domain: entry.version for entry in onnx.load(str(tmp_path / "m.onnx")).opset_import}[""] == opset


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn", "mobilenet-v1", "autoencoder", "unet"])
def test_both_counters_of_macs_agree(name: str, tmp_path: Path) -> None:
    shapes = {"ds-cnn": (1, 49, 10), "mobilenet-v1": (3, 96, 96), "autoencoder": (640,)}
    network = NETWORKS[name]().eval()
    signature = learn_outputs(
        network, Signature(inputs=(TensorSpec(name="x", shape=("batch", *shapes.get(name, (3, 32, 32)))),))
    )
    write_onnx(network, signature, tmp_path / "m.onnx")
    assert onnx_macs(tmp_path / "m.onnx") == count_macs(network, signature)


def test_parameters_and_precision_are_read_off_the_file(written: tuple[Path, Signature]) -> None:
    model = onnx.load(str(written[0]))
    assert precision_of(model) == "fp32"
    convolutions = sum(np.prod(tensor.dims) for tensor in model.graph.initializer)
    assert 0 < count_parameters(model) <= convolutions


class FixedBatch(nn.Module):
    """A network whose code fixes the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.cat(list(x.split(1)[: x.shape[0]]), 0))


def test_a_network_that_fixes_its_batch_is_written_for_one_sample(tmp_path: Path) -> None:
    signature = learn_outputs(FixedBatch(), Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),)))
    write_onnx(FixedBatch().eval(), signature, tmp_path / "m.onnx")
    session = open_session("onnxruntime", tmp_path / "m.onnx", 1)
    assert run_all(session, {"x": np.ones((3, 4), np.float32)})["output"].shape == (3, 2)


class Untraceable(nn.Module):
    """A network whose path depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x - 1


def test_what_torch_cannot_export_is_one_message(tmp_path: Path) -> None:
    signature = learn_outputs(Untraceable(), Signature(inputs=(TensorSpec(name="x", shape=("batch", 4)),)))
    with pytest.raises(InputError, match="torch cannot export this network") as caught:
        write_onnx(Untraceable(), signature, tmp_path / "m.onnx")
    assert "\n" not in str(caught.value) and not (tmp_path / "m.onnx").exists()


def test_preprocessing_inside_equals_preprocessing_outside(written: tuple[Path, Signature], tmp_path: Path) -> None:
    path, signature = written
    made = EXPORTERS["onnxruntime"].write(path, signature, ExportSettings(input="uint8"), tmp_path)
    raw = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 28)).astype(np.uint8)
    inside = open_session("onnxruntime", made, 1).run({"image": raw})["output"]
    outside = open_session("onnxruntime", path, 1).run({"image": ((raw / 255 - 0.286) / 0.353).astype(np.float32)})[
        "output"
    ]
    np.testing.assert_allclose(inside, outside, atol=1e-4)


def test_preprocessing_that_is_not_known_cannot_go_inside(written: tuple[Path, Signature]) -> None:
    with pytest.raises(InputError, match="needs one image input and its preprocessing"):
        preprocess_inside(onnx.load(str(written[0])), written[1].model_copy(update={"preprocessing": None}))


def test_a_file_that_differs_from_its_network_is_not_delivered(
    written: tuple[Path, Signature], trained: nn.Module
) -> None:
    x = np.random.default_rng(0).standard_normal((8, 1, 28, 28)).astype(np.float32)
    with torch.no_grad():
        wanted = trained(torch.from_numpy(x)).numpy()
    good = parity(written[0], "onnxruntime", {"output": wanted}, {"image": x}, "fp32")
    assert good.cosine > 0.99999 and good.agreement == 1.0 and good.samples == 8
    with pytest.raises(StageError, match="differs from the network"):
        parity(written[0], "onnxruntime", {"output": wanted * 1.01}, {"image": x}, "fp32")


def test_foreign_operators_do_not_reach_the_device(tmp_path: Path, written: tuple[Path, Signature]) -> None:
    model = onnx.load(str(written[0]))
    model.graph.node[0].domain = "org.training"
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    with pytest.raises(StageError, match="must not get"):
        EXPORTERS["onnxruntime"].write(tmp_path / "foreign.onnx", written[1], ExportSettings(), tmp_path)


def test_nodes_are_named_after_the_modules_that_they_come_from(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
            self.head = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.stem(x)
            return self.head((y + 2 * y + y.flip(1)).mean((2, 3)))

    signature = Signature(
        inputs=(TensorSpec(name="x", shape=("batch", 1, 6, 6)),), outputs=(TensorSpec(name="y", shape=("batch", 2)),)
    )
    write_onnx(Twice(), signature, tmp_path / "m.onnx")
    graph = onnx.load(str(tmp_path / "m.onnx"))
    names = [node.name for node in graph.graph.node]
    assert len(set(names)) == len(names) and {"stem.0/Conv", "stem.2/Relu", "head/Gemm", "/Add", "/Add_1"} <= set(names)
    assert named_nodes(graph, ["stem"], "keep_float") == {"stem.0/Conv", "stem.2/Relu"}
    assert named_nodes(graph, ["Gemm", "/Add_1"], "keep_float") == {"head/Gemm", "/Add_1"}
    with pytest.raises(
        InputError, match="keep_float: no node, module or operator 'stem.0/Convv'; nearest: stem.0/Conv"
    ):
        named_nodes(graph, ["stem.0/Convv"], "keep_float")
