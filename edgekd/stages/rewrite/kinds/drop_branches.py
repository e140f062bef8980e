"""Branches that only training needed are taken out."""

from typing import ClassVar, Literal

from pydantic import Field

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.edits.branches import drop_edit
from edgekd.models.network import count_parameters, example_inputs, run_network
from edgekd.stages.rewrite.rewrite import Change, TorchRewrite, check_modules
from edgekd.state import ModelState


class DropBranches(TorchRewrite):
    """Named modules are taken out: a side path that was faded to zero gives 0, one that does nothing gives what it gets.

    The outputs must stay within the tolerance.
    """

    title: ClassVar[str] = "Removal of branches of training"
    source: ClassVar[str] = "MDPD, arXiv 2604.09088, whose side network is discarded; DS-MLP for parallel ones"
    evidence: ClassVar[str] = "A"
    variant: ClassVar[str] = "any named module, checked by the outputs"
    applies: ClassVar[str] = "modules whose output is added to something, or does not differ from their input"

    kind: Literal["drop-branches"] = "drop-branches"
    modules: tuple[str, ...] = Field(min_length=1, description="modules that go; `edgekd inspect` lists them")
    instead: Literal["zero", "identity"] = Field(
        default="zero", description="what comes out in their place: 0, or their input"
    )

    def check(self, state: ModelState, context: Context) -> None:
        """Refuse names that are no module."""
        check_modules("drop-branches: modules", self.modules, state.torch.module)

    def rewrite(self, state: ModelState, context: Context) -> Change:
        """Take the modules out.

        Raises:
            InputError: the network does not run without them.
        """
        form = self.edited(state.torch, drop_edit(self.modules, self.instead), state.signature)
        try:
            run_network(form.module, example_inputs(state.signature))
        except Exception as error:  # whatever the user's forward raises
            raise InputError(
                f"drop-branches: the network does not run with {self.instead} in place of {', '.join(self.modules)}: {error}; "
                'zero suits what is added, instead = "identity" what passes its input on'
            ) from error
        gone = count_parameters(state.torch.module) - count_parameters(form.module)
        return Change(f"{', '.join(self.modules)} taken out, {gone:,} parameters", form)
