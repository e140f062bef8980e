"""Settings of the rewrite stage."""

from typing import Literal, Self

from pydantic import Field, model_validator

from edgekd.recipe import StageSettings
from edgekd.stages.rewrite.rewrite import AnyRewrite


class RewriteSettings(StageSettings):
    """Compute the same, or nearly, with fewer or other operators. `docs/rewrites.md` lists the rewrites.

    Every one is compared with what was there before on the validation part. One that does not pay on the target is taken back;
    where this machine is not the target, nothing is timed.
    """

    kind: Literal["rewrite"] = "rewrite"
    rewrites: tuple[AnyRewrite, ...] = Field(
        description="rewrites by name, or tables with their settings, in order",
        examples=[["fold-batch-norm"]],
    )
    keep: Literal["if-better", "always"] = Field(
        default="if-better",
        description="if-better: take back what does not pay on the target: neither faster nor a clearly smaller file; always: time "
        "nothing",
    )

    @model_validator(mode="after")
    def _networks_before_files(self) -> Self:
        if not self.rewrites:
            raise ValueError("rewrites: name one at least; docs/rewrites.md lists them")
        forms = [one.works_on for one in self.rewrites]
        if forms != sorted(forms, reverse=True):
            wrong = next(one.kind for one in self.rewrites[forms.index("onnx") :] if one.works_on == "torch")
            raise ValueError(f"{wrong} works on the torch network: name it before those of the ONNX file")
        return self

    @property
    def leaves_onnx(self) -> bool:
        """Return whether an ONNX file is left."""
        return any(one.works_on == "onnx" for one in self.rewrites)
