"""Why torch could not make a graph of a network, in one sentence."""

from edgekd.errors import EdgekdError, InputError, StageError

_DECIDES = (
    "forward decides by the values of a tensor (control flow, or a size, that depends on data), and a graph holds one "
    "way only; write torch.where or torch.cond, or give the value in as an input"
)
_ON_DATA = ("data-dependent", "data dependent")  # how torch names it, in all its exporters


def export_error(what: str, error: BaseException) -> EdgekdError:
    """Return what is raised where `what` failed: the network is at fault where it decides by its data, else a tool."""
    why = explain_export(error)
    return (InputError if why == _DECIDES else StageError)(f"{what}: {why}")


def explain_export(error: BaseException) -> str:
    """Return what hinders an export: control flow that depends on data in our words, all else in torch's own first lines."""
    chain = [error]
    while (inner := chain[-1].__cause__) is not None:
        chain.append(inner)
    if any(word in str(one) for one in chain for word in _ON_DATA):
        return _DECIDES
    lines = [line.strip() for line in str(chain[-1]).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(chain[-1]).__name__
