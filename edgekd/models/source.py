"""The user's model, whatever it comes as, becomes the first model state."""

import copy
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

from edgekd.code import code_digest
from edgekd.errors import InputError
from edgekd.files import digest, folder_in_one_step, sha256
from edgekd.models.loading import archive_inputs, check_weights, detect_format, load_network, load_onnx
from edgekd.models.loading.factory import code_of
from edgekd.models.loading.reading import shown
from edgekd.models.network import learn_outputs, unfrozen
from edgekd.models.onnx_graph import external_files, graph_signature
from edgekd.models.precision import precision_of
from edgekd.models.signature import Sidecar, Signature, TensorSpec, make_signature, read_sidecar, sidecar_path
from edgekd.state import Base, ModelState, OnnxForm, TorchForm, load_state

SOURCE = "source/source.json"  # in a run directory: what the run was made from


@dataclass(frozen=True)
class Opening:
    """How to open a model: packages to trust, a factory for weights without a network, its inputs.

    `signature` says all of a network in memory, which has no sidecar: inputs, task, labels.
    """

    trust: Sequence[str] = ()
    factory: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    signature: Signature | None = None


@dataclass(frozen=True)
class Opened:
    """A model: its name, format, first state, its sidecar, and the hash of all that it is made from."""

    name: str
    format: str
    state: ModelState
    sidecar: Sidecar
    identity: str

    @property
    def structure(self) -> str | None:
        """Return the hash of the network's layers or operators without its weights; None of what a run left."""
        form = self.state.form
        if self.format == "run directory":
            return None
        if isinstance(form, OnnxForm):
            graph = onnx.load(str(form.path), load_external_data=False).graph
            return digest([[node.op_type, list(node.input), list(node.output)] for node in graph.node])
        return digest(str(form.module))


def open_model(
    model: str | Path | nn.Module, opening: Opening, fallback: Signature | None = None, *, network: bool = False
) -> Opened:
    """Open a model file or the last state of a run directory, or take a network in memory.

    The inputs come from `opening`, else from the sidecar, else from the archive (`.pt2`, ONNX), else from `fallback`.
    With `network`, the last state of a run that is still a torch network is taken, where it has one.

    Raises:
        InputError: it cannot be read, asks for code that is not trusted, or its inputs are not known or wrong.
    """
    if isinstance(model, nn.Module):
        return _in_memory(model, opening, fallback)
    path = Path(model)
    if (path / SOURCE).is_file():
        return _from_run(path, opening, fallback, network)
    kind = detect_format(path)
    sidecar = read_sidecar(path)
    if kind == "onnx":
        proto = load_onnx(path)
        base = Signature(
            inputs=(TensorSpec(name="unknown", shape=("batch",)),),
            preprocessing=sidecar.preprocessing or (fallback.preprocessing if fallback else None),
            labels=sidecar.labels,
            task=sidecar.task,
            metric=sidecar.metric,
        )
        signature = graph_signature(proto, base)
        state = ModelState(signature, OnnxForm(path, precision_of(proto)))
        return Opened(
            path.stem, kind, state, sidecar, digest([sha256(path), [sha256(file) for file in external_files(path)]])
        )
    specs = opening.inputs or sidecar.inputs or archive_inputs(path) or (fallback.inputs if fallback else ())
    if not specs:
        if kind in ("module", "state-dict", "safetensors"):  # what is wrong with the file itself comes first
            load_network(path, trust=opening.trust, factory=opening.factory)
        raise InputError(
            f"the inputs of {path.name} are not known: give --input [NAME:]SHAPE, or a model.toml beside it"
        )
    signature = _signature(tuple(specs), sidecar, fallback)
    examples = tuple(torch.from_numpy(array) for array in signature.random_inputs(2).values())

    def build() -> nn.Module:
        return unfrozen(load_network(path, trust=opening.trust, factory=opening.factory, example_inputs=examples))

    module = build()
    signature = learn_outputs(module, signature)
    factory = [opening.factory, code_of(opening.factory), str(module)] if opening.factory else []
    identity = digest([sha256(path), kind, factory, _code_of(module)])
    return Opened(path.stem, kind, ModelState(signature, TorchForm(Base(build, identity), module)), sidecar, identity)


def _in_memory(module: nn.Module, opening: Opening, fallback: Signature | None) -> Opened:
    fallback = opening.signature or fallback
    specs = opening.inputs or (fallback.inputs if fallback else ())
    if not specs:
        raise InputError("the inputs of the network are not known: give inputs=['1x3x224x224'], or data with arrays")
    kept = unfrozen(copy.deepcopy(module).cpu().float().eval())
    check_weights("the network", kept)
    signature = learn_outputs(kept, _signature(tuple(specs), Sidecar(), fallback))
    base = Base(lambda: copy.deepcopy(kept), network_digest(kept))
    state = ModelState(signature, TorchForm(base, copy.deepcopy(kept)))
    return Opened(type(module).__name__.lower(), "in memory", state, Sidecar(), base.digest)


def sidecar_data(model: str | Path | nn.Module, sidecar: Sidecar) -> str | Path | None:
    """Return the data that a sidecar names: the path where they lie beside the model, else the name of a set, or None.

    Raises:
        InputError: they would be code, or lie elsewhere.
    """
    if sidecar.data is None:
        return None
    if isinstance(model, nn.Module):
        return sidecar.data
    if sidecar.wrong_data and Path(model).is_file():  # a run directory knows where its data lie
        raise InputError(f"{sidecar_path(Path(model))}: data: {sidecar.wrong_data}")
    beside = Path(model).parent / sidecar.data
    return beside if beside.exists() else sidecar.data


def sidecar_of(model: str | Path | nn.Module) -> Sidecar:
    """Return the sidecar of a model file; an empty one for a network in memory, and for a run directory.

    Raises:
        InputError: the sidecar is wrong.
    """
    return Sidecar() if isinstance(model, nn.Module) or not Path(model).is_file() else read_sidecar(Path(model))


def keep_source(model: str | Path | nn.Module, opening: Opening, data: str | None, directory: Path) -> None:
    """Keep what a run was made from in its directory, so that the run can be taken as a model later.

    `data` is where the data lie, or the set's name. Code is not kept: which packages and factory it needs is written
    down for the message, and has to be given again. A network in memory is not kept: nothing without pickle can hold its code.
    """
    if isinstance(model, nn.Module):
        return
    path, folder = Path(model), directory / "source"
    with folder_in_one_step(folder) as partial:
        if (path / SOURCE).is_file():
            shutil.copytree((path / SOURCE).parent, partial, dirs_exist_ok=True)
            return
        external = external_files(path) if detect_format(path) == "onnx" else []
        for file in (path, sidecar_path(path), *external):
            if file is not None:
                copy_path = partial / file.relative_to(path.parent)
                copy_path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy_path)
        content = {
            "file": path.name,
            "trust": list(opening.trust),
            "factory": opening.factory,
            "inputs": [spec.model_dump(mode="json") for spec in opening.inputs],
            "data": None if data is None or ":" in data else data,
        }
        (partial / Path(SOURCE).name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def kept_data(directory: Path) -> str | None:
    """Return where the data of a run lie, or the name of their set; None where it is not known, or would be code."""
    try:
        data = json.loads((directory / SOURCE).read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return data if isinstance(data, str) and ":" not in data else None


def _from_run(directory: Path, opening: Opening, fallback: Signature | None, network: bool) -> Opened:
    """Open the state that the last stage of a finished run left.

    The directory may come from a stranger, so it names no code: what its model needs is given again by the caller.
    """
    try:
        kept = json.loads((directory / SOURCE).read_text(encoding="utf-8"))
        report = json.loads((directory / "report.json").read_text(encoding="utf-8"))
        folders = [_stage_folder(directory, stage["key"]) for stage in report["stages"]]
        if not folders:
            raise ValueError("no stages")
        inputs = opening.inputs or tuple(TensorSpec.model_validate(spec) for spec in kept["inputs"])
        file, data = _inside(directory / "source", kept["file"]), kept["data"]
        if data is not None and ":" in data:
            raise ValueError("its data would be code")
        asked = [f"--trust {shown(str(name))}" for name in kept["trust"] if name not in opening.trust]
        asked += [f"--model {shown(str(kept['factory']))}"] if kept["factory"] and opening.factory is None else []
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"{directory} holds no finished run for one target ({type(error).__name__}: {shown(str(error))}); "
            "give a model file"
        ) from error
    if asked:
        raise InputError(
            f"{directory} was made with code of yours, and a folder is not trusted to name code: if you know it, "
            f"give {' '.join(asked)} again"
        )
    first = open_model(file, Opening(opening.trust, opening.factory, inputs), fallback)
    form = first.state.form
    base = form.base if isinstance(form, TorchForm) else None
    for folder in reversed(folders):
        state = load_state(folder, base)
        if not network or isinstance(state.form, TorchForm):
            break
    if isinstance(state.form, OnnxForm):
        load_onnx(state.form.path)  # as careful as with any other ONNX file
    # Whose the data are is not taken from a folder: what its sidecar says need not be of the data it was run on.
    named = None if first.sidecar.wrong_data else first.sidecar.data
    kept_data = {"data": data or named, "data_origin": None, "data_licence": None}
    sidecar = first.sidecar.model_copy(update=kept_data)
    return Opened(first.name, "run directory", state, sidecar, digest([first.identity, sha256(folder / "state.json")]))


def _stage_folder(directory: Path, key: str) -> Path:
    """Return the folder that holds a stage's output."""
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise ValueError("a stage's key is no hash")
    (folder,) = (directory / "stages").glob(f"*-{key[:16]}")
    return folder


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a file that lies in a folder itself, and not behind a link."""
    path = folder / name
    if path.resolve().parent != folder.resolve():
        raise ValueError("its model file lies outside")
    return path


def network_digest(network: nn.Module) -> str:
    """Return the hash of a network on the CPU: its layers, the code of its own ones, and all weights."""
    sha = hashlib.sha256(f"{network} {_code_of(network)}".encode())
    for name, tensor in network.state_dict().items():
        sha.update(name.encode())
        sha.update(tensor.detach().contiguous().numpy().tobytes())
    return sha.hexdigest()


def _code_of(module: nn.Module) -> str:
    """Return the hash of the code of a network's own layers; torch's are known by its version."""
    classes = {type(layer) for layer in module.modules()}
    return code_digest(*(one for one in classes if not one.__module__.startswith("torch.")))


def _signature(specs: tuple[TensorSpec, ...], sidecar: Sidecar, fallback: Signature | None) -> Signature:
    return make_signature(
        "the inputs",
        inputs=specs,
        preprocessing=sidecar.preprocessing or (fallback.preprocessing if fallback else None),
        labels=sidecar.labels or (fallback.labels if fallback else None),
        task=sidecar.task if sidecar != Sidecar() or fallback is None else fallback.task,
        metric=sidecar.metric,
    )
