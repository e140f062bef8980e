"""What a stage is: a settings class and a function, with the forms it accepts and the one it produces."""

from collections.abc import Callable
from dataclasses import dataclass

from edgekd.context import Context
from edgekd.errors import InputError
from edgekd.models.precision import NEEDS, Precision
from edgekd.recipe import StageSettings
from edgekd.state import ModelState


@dataclass(frozen=True)
class Stage:
    """A stage, found by the type of its settings.

    `accepts` and `produces` name forms as in `state.py`; what is accepted may depend on the settings, what is produced also on
    the form that the stage is given. `trains` says that it needs a train part, which the settings may decide; `depends_on` picks
    what of the context, beside data and seed, can change the result (it enters the cache key). `check` refuses, before any work,
    settings that cannot fit the model that the run begins with; `becomes` refuses a precision that the stage cannot take, and
    returns the one that it leaves.
    """

    settings: type[StageSettings]
    run: Callable[[ModelState, StageSettings, Context], ModelState]
    accepts: frozenset[str] | Callable[[StageSettings], frozenset[str]]
    produces: str | Callable[[StageSettings, str], str]
    trains: bool | Callable[[StageSettings], bool]
    depends_on: Callable[[StageSettings, Context], dict[str, object]]
    check: Callable[[StageSettings, ModelState, Context], None]
    describe: Callable[[StageSettings, Context], str]
    becomes: Callable[[StageSettings, Precision], Precision] = lambda settings, precision: precision

    def takes(self, settings: StageSettings) -> frozenset[str]:
        """Return the forms that the stage can be given."""
        return self.accepts if isinstance(self.accepts, frozenset) else self.accepts(settings)

    def leaves(self, settings: StageSettings, form: str) -> str:
        """Return the form that the stage leaves when it is given this one."""
        return self.produces if isinstance(self.produces, str) else self.produces(settings, form)

    def learns(self, settings: StageSettings) -> bool:
        """Return whether the stage trains with these settings."""
        return self.trains if isinstance(self.trains, bool) else self.trains(settings)


def same_form(settings: StageSettings, form: str) -> str:
    """Return the form that a stage is given, for one that keeps it."""
    return form


def from_float(precision: Precision) -> None:
    """Refuse a network whose numbers another stage has rounded.

    Raises:
        InputError: it is not in float32.
    """
    if precision != "fp32":
        raise InputError(
            f"the network is {precision} by then; quantize once, or use --recipe export on a file that is rounded already"
        )


def check_runtime(precision: Precision, context: Context) -> None:
    """Refuse a precision that the runtime does not run.

    Raises:
        InputError: names the runtimes of the target that do.
    """
    lacking = set(NEEDS[precision]) - set(context.runtime.precisions)
    if lacking:
        others = [
            name for name, one in context.target.runtime.items() if not set(NEEDS[precision]) - set(one.precisions)
        ]
        raise InputError(
            f"{context.target.name} with {context.runtime_name} runs {', '.join(context.runtime.precisions)}, no "
            f"{' and '.join(sorted(lacking))}; {', '.join(others) if others else 'no runtime of this target'} does"
        )
