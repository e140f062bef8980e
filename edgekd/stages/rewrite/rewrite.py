"""What a rewrite is: typed settings with a function, found by their type; and what it leaves."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_origin

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator
from torch import nn

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.losses.loss import find_kind
from edgekd.losses.method import Method
from edgekd.models.edits import Edit, apply_edits
from edgekd.models.signature import Signature
from edgekd.models.taps import check_module
from edgekd.state import ModelState, OnnxForm, TorchForm

REWRITES: dict[str, type["Rewrite"]] = {}
Feeds = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Change:
    """What a rewrite did, in words, with figures for the stage's notes; `form` is None where there was nothing to do."""

    about: str
    form: TorchForm | OnnxForm | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class Rewrite(Method):
    """Settings of a rewrite; a subclass with a `kind` of its own registers itself, and appears in `docs/rewrites.md`.

    `works_on` is the form it takes and leaves. An `exact` one must keep the outputs within its `tolerance`; others change
    them, and the change of the metric is noted. `for_speed` says that it is taken back where it does not pay on the target;
    `saves` names what it makes smaller that no file shows, which is a reason to keep one that is as fast as before.
    """

    registry: ClassVar[dict[str, Any]] = REWRITES
    capability: ClassVar[str] = "C09"
    evidence: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    works_on: ClassVar[Literal["torch", "onnx"]] = "torch"
    exact: ClassVar[bool] = True
    for_speed: ClassVar[bool] = True
    saves: ClassVar[str | None] = None

    tolerance: float | None = Field(
        default=1e-5,
        gt=0,
        description="largest difference of the outputs, as a share of the largest one, on validation",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any, info: ValidationInfo) -> Any:
        """Take one name for a list of one, as it is written on the command line."""
        kind = cls.model_fields[str(info.field_name)].annotation
        return (value,) if isinstance(value, str) and get_origin(kind) is tuple else value

    def check(self, state: ModelState, context: Context) -> None:
        """Refuse, before any work, what cannot fit the model that the run begins with.

        Raises:
            InputError: names the setting and the fix.
        """

    def rewrite(self, state: ModelState, context: Context) -> Change:
        """Return the rewritten form, or that there is nothing to do.

        Raises:
            InputError: the settings do not fit the network.
        """
        raise TypeError(f"{type(self).__name__} has no rewrite")

    def timed_inputs(self, signature: Signature) -> tuple[Feeds, Feeds] | None:
        """Return what the file before and the file after are timed with, or None: one sample."""
        return None

    def describe(self) -> str:
        """Return the rewrite in words, for the plan."""
        return self.kind


class TorchRewrite(Rewrite):
    """A rewrite of a torch network, kept as edits."""

    def edited(self, form: TorchForm, edit: Edit, signature: Signature) -> TorchForm:
        """Return a form with one more edit, applied to a copy of its network."""
        module = apply_edits(copy.deepcopy(form.module), [edit], signature)
        return replace(form, module=module.eval(), edits=(*form.edits, edit))


def check_modules(setting: str, names: tuple[str, ...], module: nn.Module) -> None:
    """Check that every name of a setting is a module.

    Raises:
        InputError: one is not; the nearest names are given.
    """
    for name in names:
        try:
            check_module(module, name)
        except InputError as error:
            raise InputError(f"{setting}: {error}") from error


def onnx_path(state: ModelState) -> Path:
    """Return the file of a state that the stage has written as ONNX."""
    assert isinstance(state.form, OnnxForm)
    return state.form.path


def _find_rewrite(value: Any) -> Any:
    import edgekd.stages.rewrite.kinds  # noqa: F401  # registers all

    return find_kind(value, REWRITES, "rewrite", f"it is one of {', '.join(sorted(REWRITES))}")


AnyRewrite = Annotated[SerializeAsAny[Rewrite], BeforeValidator(_find_rewrite)]
