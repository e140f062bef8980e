import click
import pytest

from edgekd.cli.options import TargetName, budget_of

from .conftest import Cli


def test_target_names_complete() -> None:
    command = click.Command("any")
    parameter = click.Option(["--target"])
    found = TargetName().shell_complete(click.Context(command), parameter, "raspberry-pi-")
    assert [item.value for item in found] == ["raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2w"]
    (file,) = TargetName().shell_complete(click.Context(command), parameter, "./my")
    assert file.type == "file"


def test_budget() -> None:
    assert budget_of({"recipe": None}) is None
    budget = budget_of({"accuracy_drop": 0.5, "size_kb": None, "latency_ms": 2.0})
    assert budget.model_dump(exclude_none=True) == {"accuracy_drop": 0.5, "latency_ms": 2.0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--size", "-1"), "--size"),
        (("--latency", "0"), "--latency"),
        (("--seed", "-3"), "--seed"),
        (("--threads", "0"), "--threads"),
        (("--device", "tpu"), "--device"),
        (("--input", "many"), "[NAME:]SHAPE[:DTYPE]"),
        (("--device", "cuda"), "no CUDA device"),
    ],
)
def test_wrong_values(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    if arguments[1] == "cuda":
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
    outcome = cli("plan", "model.pt", "-t", "nir", *arguments)
    assert outcome.code == 2 and words in outcome.err
