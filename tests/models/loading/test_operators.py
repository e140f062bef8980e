"""Operators that only compute are allowed, those that touch files or objects are not."""

import pytest
import torch

from edgekd.models.loading.operators import is_allowed_target, is_plain_aten


@pytest.mark.parametrize(
    "name",
    ["conv2d", "relu_", "einsum", "pad", "gelu", "lstm", "scaled_dot_product_attention", "add", "format"],
)
def test_operators_that_compute_are_plain(name: str) -> None:
    assert is_plain_aten(name)


@pytest.mark.parametrize(
    "name",
    ["from_file", "save", "load", "set_", "record_stream", "to_here", "no_such_operator", "_sparse_coo_tensor_unsafe"],
)
def test_operators_with_other_effects_are_not(name: str) -> None:
    assert not is_plain_aten(name)


def test_an_unknown_text_argument_is_taken_for_a_file_name() -> None:
    library = torch.library.Library("aten", "FRAGMENT")
    library.define("edgekd_test_write(Tensor x, str path) -> Tensor")
    assert not is_allowed_target("torch.ops.aten.edgekd_test_write.default")


@pytest.mark.parametrize(
    "target",
    ["torch.ops.aten.conv2d.default", "torch.ops.aten.add.Tensor", "_operator.mul", "torch.sym_max", "math.ceil"],
)
def test_targets_of_ordinary_graphs_are_allowed(target: str) -> None:
    assert is_allowed_target(target)


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "torch.load",
        "torch.save",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.segment_reduce.default",
        "torch.ops.aten._sparse_csr_tensor_unsafe.default",
        "torch.ops.aten.__class__.mro",
        "torch.ops.aten.relu",
        "torch.ops.aten.relu.default.__call__",
        "torch.ops.higher_order.cond",
        "torch.ops.torchvision.nms.default",
        "torch._C._jit_set_profiling_mode",
        "torch.utils.cpp_extension.load_inline",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "math.__loader__.load_module",
        "#my_extension:op",
        "os.system",
        "",
    ],
)
def test_all_other_targets_are_refused(target: str) -> None:
    assert not is_allowed_target(target)
