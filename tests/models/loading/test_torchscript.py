"""TorchScript: ordinary programs become layers; programs that do more than compute are refused unread."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.models.loading import load_network

from .crafted import Marker, change_archive, small_network

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize("how", ["trace", "script"])
def test_networks_become_layers(how: str, network: nn.Module, image: Tensor, tmp_path: Path) -> None:
    script = torch.jit.trace(network, image) if how == "trace" else torch.jit.script(network)
    script.save(tmp_path / "model.pt")
    loaded = load_network(tmp_path / "model.pt", example_inputs=(image[:1],))
    for batch in (image, image[:1], torch.cat([image, image])):
        torch.testing.assert_close(loaded(batch), network(batch), atol=1e-5, rtol=1e-5)
    assert isinstance(loaded.get_submodule("0"), nn.Conv2d)
    assert isinstance(loaded.get_submodule("1"), nn.BatchNorm2d)
    assert {n for n, _ in loaded.named_parameters()} == {n for n, _ in network.named_parameters()}
    assert loaded.state_dict().keys() == network.state_dict().keys()


def test_fresh_buffers_do_not_become_parameters(image: Tensor, tmp_path: Path) -> None:
    """torch's converter takes running_mean for a parameter where it equals the bias, both zero."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).eval()
    torch.jit.trace(network, image).save(tmp_path / "model.pt")
    loaded = load_network(tmp_path / "model.pt", example_inputs=(image,))
    assert {n for n, _ in loaded.named_buffers()} == {n for n, _ in network.named_buffers()}
    norm = loaded.train().get_submodule("1")
    loaded(image)
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_mean.abs().sum() > 0


def test_inputs_must_be_given(good_files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="--input"):
        load_network(good_files["torchscript"])


def test_inputs_must_fit(good_files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="does not run with the given --input"):
        load_network(good_files["torchscript"], example_inputs=(torch.randn(1, 5, 5, 5),))


def test_frozen_programs_are_refused(image: Tensor, tmp_path: Path) -> None:
    torch.jit.freeze(torch.jit.script(small_network())).save(tmp_path / "model.pt")
    with pytest.raises(InputError, match="frozen or optimized"):
        load_network(tmp_path / "model.pt", example_inputs=(image,))


class Endless(nn.Module):
    """A loop that may never end."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer until the result is zero."""
        while bool(x.abs().max() > 0):
            x = self.layer(x)
        return x


def test_loops_that_might_never_end_are_refused(tmp_path: Path) -> None:
    torch.jit.script(Endless()).save(tmp_path / "model.pt")
    with pytest.raises(InputError, match="might never end"):
        load_network(tmp_path / "model.pt", example_inputs=(torch.randn(2, 2),))


class DataDependent(Endless):
    """A list that torch.export cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to the parts of x."""
        parts = [x]
        for _ in range(int(x.sum().abs()) + 2):
            parts.append(self.layer(parts.pop()))
        return parts[0]


def test_programs_that_cannot_be_followed_are_refused_with_advice(tmp_path: Path) -> None:
    torch.jit.script(DataDependent()).save(tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"cannot be turned into layers.*torch\.export\.save"):
        load_network(tmp_path / "model.pt", example_inputs=(torch.randn(2, 2),))


class FromFile(nn.Module):
    """Maps a file in forward, which creates it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's answer."""
        return self.layer(x) + torch.from_file(self.path, shared=True, size=1).sum()


class Saves(FromFile):
    """Writes a file in forward."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's answer."""
        torch.save(x, self.path)
        return self.layer(x)


class SetState(nn.Module):
    """Maps a file while it is loaded, which creates it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.kept = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x + self.kept

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        self.kept = torch.from_file(self.path, shared=True, size=1)


@pytest.mark.parametrize(
    ("kind", "named", "runs_at_load"),
    [(FromFile, "from_file", False), (Saves, "save", False), (SetState, "__setstate__", True)],
)
def test_programs_that_touch_files_are_refused_and_nothing_runs(
    kind: Callable[[str], nn.Module], named: str, runs_at_load: bool, tmp_path: Path, marker: Marker
) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(kind(str(marker.path))).save(path)
    marker.take()
    with pytest.raises(InputError, match=rf"does more than compute.*{named}"):
        load_network(path, example_inputs=(torch.randn(2, 2),))
    assert not marker.exists
    script = torch.jit.load(path)  # the positive control
    assert marker.exists == runs_at_load
    script(torch.randn(2, 2))
    assert marker.take()  # at load already, or by running it


def code_of(source: Path, path: Path, old: str, new: str) -> Path:
    """Write a copy of an archive with changed code."""

    def change(records: dict[str, bytes]) -> None:
        for name in [name for name in records if name.endswith(".py") and old.encode() in records[name]]:
            records[name] = records[name].replace(old.encode(), new.encode())
            return
        raise AssertionError(f"{old} is not in the code")

    return change_archive(source, path, change)


CALL = "torch._convolution("


@pytest.mark.parametrize(
    ("new", "named"),
    [
        ('_0 = torch.from_file("x", True, 1)\n    weight = self.weight\n', "from_file"),
        ("_0 = torch.from_file\n    weight = self.weight\n", "from_file"),
        ('_0 = ops.aten.from_file("x", True, 1)\n    weight = self.weight\n', "from_file"),
        ('_0 = (x).save("x")\n    weight = self.weight\n', "save"),
        ("_0 = ops.prim.rpc_sync(x)\n    weight = self.weight\n", "ops.prim.rpc_sync"),
        ("_0 = ops.image.read_file(x)\n    weight = self.weight\n", "ops.image.read_file"),
        ("_0 = torch.hub.load(x)\n    weight = self.weight\n", "torch.hub.load"),
        ("_0 = fork(x)\n    weight = self.weight\n", "fork"),
        ("_0 = (x).no_such_method()\n    weight = self.weight\n", ".no_such_method"),
        ("_0 = __torch__.torch.classes.aot.Loader(x)\n    weight = self.weight\n", "torch.classes"),
        ("_0 = print(x)\n    weight = self.weight\n", "print"),
        ("_0 = (x)(x)(x)\n    weight = self.weight\n", "a call of a computed value"),
    ],
)
def test_calls_outside_the_policy_are_refused(
    new: str, named: str, good_files: dict[str, Path], tmp_path: Path, image: Tensor
) -> None:
    path = code_of(good_files["torchscript"], tmp_path / "bad.pt", "weight = self.weight\n", new)
    with pytest.raises(InputError) as caught:
        load_network(path, example_inputs=(image,))
    assert "does more than compute" in str(caught.value) and named in str(caught.value)


@pytest.mark.parametrize(
    "new",
    [
        'x = """text""" + torch._convolution(',
        "x = r'text' + torch._convolution(",
        "x = 1 + \\\n    torch._convolution(",
        "x = 'é' + torch._convolution(",
        "x = (((",
        "x = torch._convolution(\x0c",
    ],
)
def test_code_that_two_parsers_might_read_differently_is_refused(
    new: str, good_files: dict[str, Path], tmp_path: Path, image: Tensor
) -> None:
    path = code_of(good_files["torchscript"], tmp_path / "bad.pt", CALL, new)
    with pytest.raises(InputError, match="cannot be read as code"):
        load_network(path, example_inputs=(image,))


def test_pickles_of_the_archive_hold_no_other_objects(
    good_files: dict[str, Path], tmp_path: Path, image: Tensor
) -> None:
    def change(records: dict[str, bytes]) -> None:
        records["constants.pkl"] = b"\x80\x02c__torch__.torch.classes.quantized\nLinearPackedParamsBase\n)\x81."

    with pytest.raises(InputError, match=r"__torch__\.torch\.classes\.quantized"):
        load_network(change_archive(good_files["torchscript"], tmp_path / "bad.pt", change), example_inputs=(image,))


def test_attributes_have_plain_names(good_files: dict[str, Path], tmp_path: Path, image: Tensor) -> None:
    new = """  __annotations__["x'+exit()+'"] = int\n  def forward("""
    path = code_of(good_files["torchscript"], tmp_path / "bad.pt", "  def forward(", new)
    with pytest.raises(InputError, match="not a plain name"):
        load_network(path, example_inputs=(image,))


class Scaled(nn.Sequential):
    """Multiplies with Python numbers, which tracing turns into constants of double precision."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled answer."""
        y: Tensor = super().forward(x * torch.tensor(0.5, dtype=torch.float64))
        return y + torch.tensor([2, 3, 4]).double()


def test_constants_may_have_other_types(image: Tensor, tmp_path: Path) -> None:
    network = Scaled(*small_network().children()).eval()
    torch.jit.trace(network, image).save(tmp_path / "model.pt")
    loaded = load_network(tmp_path / "model.pt", example_inputs=(image,))
    torch.testing.assert_close(loaded(image), network(image), atol=1e-5, rtol=1e-5)


def test_what_is_not_checked_does_not_reach_torch(
    good_files: dict[str, Path], tmp_path: Path, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekd.models.loading import torchscript

    handed_over: list[str] = []
    original = torchscript.write_archive
    monkeypatch.setattr(
        torchscript, "write_archive", lambda records: (handed_over.extend(records), original(records))[1]
    )
    load_network(good_files["torchscript"], example_inputs=(image,))
    assert handed_over and not any("debug_pkl" in name or "traced_inputs" in name for name in handed_over)


def test_weights_that_would_become_constants_are_refused(tmp_path: Path) -> None:
    """torch's converter turns the weights of a scripted recurrent layer into constants."""
    torch.jit.script(nn.Sequential(nn.GRU(3, 4))).save(tmp_path / "model.pt")
    with warnings.catch_warnings(), pytest.raises(InputError, match="would become constants|cannot be turned"):
        warnings.simplefilter("ignore")
        load_network(tmp_path / "model.pt", example_inputs=(torch.randn(5, 2, 3),))
