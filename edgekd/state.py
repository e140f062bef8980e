"""The model state: what travels from stage to stage; signature, lineage and exactly one form."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import fx, nn

from edgekd.errors import StageError
from edgekd.files import sha256
from edgekd.models.edits import Edit, apply_edits
from edgekd.models.fake_quantization import Simulation, copy_weights, prepare_graph
from edgekd.models.precision import Precision
from edgekd.models.signature import Signature


@dataclass(frozen=True)
class Base:
    """How to get the uncompressed network again, and the hash of what it is made from."""

    build: Callable[[], nn.Module] = field(compare=False)
    digest: str


@dataclass(frozen=True)
class TorchForm:
    """A torch network: its base, the edits made to it, and the live module that they and the weights give."""

    kind: ClassVar[str] = "torch"
    precision: ClassVar[Precision] = "fp32"
    base: Base
    module: nn.Module
    edits: tuple[Edit, ...] = ()

    def save(self, folder: Path) -> dict[str, Any]:
        """Write `weights.safetensors`; return what `state.json` keeps."""
        _save_weights(self.module, folder)
        return {"base": self.base.digest, "edits": list(self.edits)}

    @classmethod
    def load(cls, folder: Path, kept: dict[str, Any], base: Base | None, signature: Signature) -> "TorchForm":
        """Build the base again, apply the edits, load the weights."""
        base = _same_base(folder, kept, base)
        module = apply_edits(base.build(), kept["edits"], signature)
        module.load_state_dict(_load_weights(folder))
        return cls(base, module.eval(), tuple(kept["edits"]))


@dataclass(frozen=True)
class PreparedForm:
    """A torch network as a fake-quantized graph that can be trained; a view of its torch form, with the same weights.

    `module` has the weights of the torch form under their names, and the scales and zero points of its rounders besides.
    """

    kind: ClassVar[str] = "prepared"
    base: Base
    module: fx.GraphModule
    simulation: Simulation
    edits: tuple[Edit, ...] = ()

    @property
    def precision(self) -> Precision:
        """Return what is rounded to: `int8`, or the weights alone, as `int4-weights`."""
        return self.simulation.precision

    def save(self, folder: Path) -> dict[str, Any]:
        """Write `weights.safetensors`, scales and zero points with it; return what `state.json` keeps."""
        _save_weights(self.module, folder)
        simulation = self.simulation.model_dump(mode="json")
        return {"base": self.base.digest, "edits": list(self.edits), "simulation": simulation}

    @classmethod
    def load(cls, folder: Path, kept: dict[str, Any], base: Base | None, signature: Signature) -> "PreparedForm":
        """Build the base again, apply the edits, trace and prepare it in the same way, load the weights."""
        base = _same_base(folder, kept, base)
        simulation = Simulation.model_validate(kept["simulation"])
        graph = prepare_graph(apply_edits(base.build(), kept["edits"], signature), signature, simulation)
        graph.load_state_dict(_load_weights(folder))
        return cls(base, graph, simulation, tuple(kept["edits"]))

    def copied_back(self, signature: Signature) -> TorchForm:
        """Return the torch form with the graph's current weights, copied by name; batch norms have theirs, unfolded."""
        module = apply_edits(self.base.build(), self.edits, signature)
        copy_weights(self.module, module)
        return TorchForm(self.base, module.eval(), self.edits)


@dataclass(frozen=True)
class OnnxForm:
    """An ONNX file and its precision."""

    kind: ClassVar[str] = "onnx"
    path: Path
    precision: Precision = "fp32"

    def save(self, folder: Path) -> dict[str, Any]:
        """Write `model.onnx`; return what `state.json` keeps."""
        import onnx

        from edgekd.models.onnx_graph import external_files

        if external_files(self.path):  # brought inside: a state is one file
            onnx.save(onnx.load(str(self.path)), str(folder / "model.onnx"))
        else:
            (folder / "model.onnx").write_bytes(self.path.read_bytes())
        return {"precision": self.precision}

    @classmethod
    def load(cls, folder: Path, kept: dict[str, Any], base: Base | None, signature: Signature) -> "OnnxForm":
        """Point at the file in the folder."""
        return cls(folder / "model.onnx", kept["precision"])


Form = TorchForm | PreparedForm | OnnxForm
FORMS: dict[str, type[TorchForm] | type[PreparedForm] | type[OnnxForm]] = {
    form.kind: form for form in (TorchForm, PreparedForm, OnnxForm)
}


def _same_base(folder: Path, kept: dict[str, Any], base: Base | None) -> Base:
    if base is None or kept["base"] != base.digest:
        raise StageError(f"{folder} was made from another network")
    return base


def _save_weights(module: nn.Module, folder: Path) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, folder / "weights.safetensors")


def _load_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")


@dataclass(frozen=True)
class ModelState:
    """What travels from stage to stage.

    `lineage` names the stages behind it; `notes` is what the last stage found out, as plain JSON.
    """

    signature: Signature
    form: Form
    lineage: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def torch(self) -> TorchForm:
        """Return the torch form; the planner has made sure that there is one."""
        if not isinstance(self.form, TorchForm):
            raise StageError(f"this stage needs a torch network, not {self.form.kind}")
        return self.form

    def floating(self) -> "ModelState":
        """Return the state with its torch network in float: a fake-quantized graph's weights are copied back."""
        form = self.form.copied_back(self.signature) if isinstance(self.form, PreparedForm) else self.form
        return replace(self, form=form)

    def after(self, stage: str, form: Form, notes: dict[str, Any]) -> "ModelState":
        """Return the state that a stage leaves behind."""
        return replace(self, form=form, lineage=(*self.lineage, stage), notes=notes)


def save_state(state: ModelState, folder: Path) -> None:
    """Write a state into an empty folder, without pickle: `state.json` and the form's file."""
    kept = state.form.save(folder)
    content = {
        "schema": 1,
        "form": state.form.kind,
        "signature": state.signature.model_dump(mode="json"),
        "lineage": list(state.lineage),
        "notes": state.notes,
        "kept": kept,
        "files": {path.name: sha256(path) for path in sorted(folder.iterdir())},
    }
    (folder / "state.json").write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def load_state(folder: Path, base: Base | None) -> ModelState:
    """Read a state; its files must have the hashes that were written down.

    Raises:
        StageError: a file is missing or changed, or the base is another one.
    """
    try:
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        changed = [name for name, digest in content["files"].items() if sha256(folder / name) != digest]
        signature = Signature.model_validate(content["signature"])
        kind = FORMS[content["form"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StageError(f"cannot read the stage output {folder}: {error}") from error
    if changed:
        raise StageError(f"the stage output {folder} was changed: {', '.join(changed)}")
    form = kind.load(folder, content["kept"], base, signature)
    return ModelState(signature, form, tuple(content["lineage"]), content["notes"])
