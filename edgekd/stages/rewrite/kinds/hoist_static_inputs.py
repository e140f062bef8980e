"""Inputs that are the same for all samples of a call are computed once a call."""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnx
from pydantic import Field

from edgekd.context import Context
from edgekd.data import Part
from edgekd.device.runtimes import open_session
from edgekd.errors import InputError, StageError
from edgekd.models.onnx_graph import node_macs
from edgekd.models.signature import Signature
from edgekd.stages.rewrite.hoisting import Hoisted, hoist
from edgekd.stages.rewrite.rewrite import Change, Feeds, Rewrite, onnx_path
from edgekd.stages.rewrite.verification import Difference, difference_of
from edgekd.state import ModelState, OnnxForm

_CALLS = 8  # static rows that are compared, each with many candidates


class HoistStaticInputs(Rewrite):
    """Layers that read static and varying features together are cut in two: y = u W_u + i W_i + b, the first part once.

    In training every sample has its static input, (N, d); the rewritten file takes it once a call, (1, d), and any number of samples
    of the other inputs.
    """

    title: ClassVar[str] = "Static-input hoisting"
    source: ClassVar[str] = "MaRI, arXiv 2602.23105"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = "on the ONNX graph; convolutions of any kernel are cut too"
    applies: ClassVar[str] = "networks with several inputs, in float; exact up to the order of sums"
    works_on: ClassVar[Literal["torch", "onnx"]] = "onnx"

    kind: Literal["hoist-static-inputs"] = "hoist-static-inputs"
    once: tuple[str, ...] = Field(min_length=1, description="inputs that are the same for all samples of a call")
    candidates: int = Field(default=300, ge=2, le=65_536, description="samples a call, for timing and counting")

    def check(self, state: ModelState, context: Context) -> None:
        """Refuse names that are no input, and a network without a varying one."""
        names = [spec.name for spec in state.signature.inputs]
        unknown = [name for name in self.once if name not in names]
        if unknown:
            raise InputError(
                f"hoist-static-inputs: once: no input {', '.join(unknown)}; the inputs are {', '.join(names)}"
            )
        if set(self.once) == set(names):
            raise InputError("hoist-static-inputs: once names all inputs; one at least differs from sample to sample")

    def rewrite(self, state: ModelState, context: Context) -> Change:
        """Write the file whose static inputs have a batch of one.

        Raises:
            StageError: it does not run, or differs for many samples of one static input.
        """
        source, path = onnx_path(state), context.workdir / "model.onnx"
        model = onnx.load(str(source))
        found = hoist(model, self.once)
        if not found.splits and not found.whole:
            return Change(f"no layer works on {', '.join(self.once)} alone, or on a concatenation with it")
        onnx.checker.check_model(found.model)
        onnx.save(found.model, str(path))
        different = self._difference(source, path, context)
        if self.tolerance is not None and not different.relative <= self.tolerance:
            raise StageError(
                f"hoist-static-inputs: {different.relative:.3g} of the largest output off for {self.candidates} samples of one "
                f"{', '.join(self.once)}, more than tolerance = {self.tolerance:g}"
            )
        notes = {
            "candidates": self.candidates,
            "candidates_relative_difference": different.relative,
            **self._work(model, found),
        }
        about = f"{len(found.splits)} layers cut in two, {len(found.whole)} computed once a call"
        if "macs_ratio" in notes:
            about += f": {notes['macs_ratio']:.2f}x fewer multiplications for {self.candidates} samples"
        return Change(about, OnnxForm(path), notes)

    def timed_inputs(self, signature: Signature) -> tuple[Feeds, Feeds]:
        """Return a call of many samples: static inputs repeated for the file before, once for the file after."""
        return self._calls(signature.random_inputs(self.candidates), 0)

    def _calls(self, inputs: dict[str, Any], row: int) -> tuple[Feeds, Feeds]:
        alone = {name: inputs[name][row : row + 1] for name in self.once}
        repeated = {name: np.repeat(array, len(next(iter(inputs.values()))), 0) for name, array in alone.items()}
        return {**inputs, **repeated}, {**inputs, **alone}

    def _difference(self, before: Path, after: Path, context: Context) -> Difference:
        """Compare both files on real inputs: static rows of the validation part, each with many of its samples."""
        part: Part = context.parts.validation
        inputs = part.take(self.candidates).inputs()
        sessions = [open_session("onnxruntime", path, context.threads) for path in (before, after)]
        found = []
        for row in range(min(_CALLS, len(next(iter(inputs.values()))))):
            calls = self._calls(inputs, row)
            found.append(
                difference_of(*(session.run(dict(call)) for session, call in zip(sessions, calls, strict=True)))
            )
        return max(found, key=lambda one: one.relative)

    def _work(self, model: onnx.ModelProto, found: Hoisted) -> dict[str, Any]:
        """Return the predicted ratio of every layer that was cut, and the counted one of the whole graph."""
        notes: dict[str, Any] = {
            "predicted": {one.node: round(one.ratio(self.candidates), 4) for one in found.splits},
            "once": list(found.whole),
        }
        count = partial(node_macs, batch=self.candidates)
        before, after = count(model), count(found.model, sizes=dict.fromkeys(self.once, 1))
        macs = [[one for _, one in counted] for counted in (before, after)]
        if all(one is not None for counted in macs for one in counted):
            totals = [sum(one or 0 for one in counted) for counted in macs]
            notes |= {"macs": totals, "macs_ratio": round(totals[0] / max(totals[1], 1), 4)}
        return notes
