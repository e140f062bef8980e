from typing import Any

import pytest

from edgekd.cli.loss_option import read_loss, read_losses
from edgekd.errors import InputError


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("kl", {}),
        ("kl:temperature=4,weight=0.5", {"temperature": 4, "weight": 0.5}),
        ("kl:temperature={start=4,end=1}", {"temperature": {"start": 4, "end": 1}}),
        ("kl:importance=difficulty,output=logits", {"importance": "difficulty", "output": "logits"}),
        ("kl:taps.stages.1=stages.2", {"taps": {"stages.1": "stages.2"}}),
        ("occupancy:tap=1.10,moments=2", {"kind": "occupancy", "tap": "1.10", "moments": 2}),
        ("kl:taps.1=2,taps.3=1.10", {"taps": {"1": "2", "3": "1.10"}}),
        ('kl:taps.1="2"', {"taps": {"1": "2"}}),
        ('kl:taps={"1"="2"}', {"taps": {"1": "2"}}),
    ],
)
def test_a_loss_is_read(text: str, table: dict[str, Any]) -> None:
    assert read_loss(text) == {"kind": "kl", **table}


def test_a_list_that_lost_its_quotes_is_refused() -> None:
    with pytest.raises(InputError, match=r"^--loss 'feature:taps=\{a=b\}': \{a=b\} is no table .* single quotes"):
        read_loss("feature:taps={a=b}")


@pytest.mark.parametrize("given", [(None, 0.0, None), (None, 1.5, None), (0.5, 0.5, None)])
def test_alpha_stands_alone_between_zero_and_one(given: tuple[float | None, ...]) -> None:
    with pytest.raises(InputError, match="--alpha"):
        read_losses((), *given)


def test_alpha_is_short_for_two_weights() -> None:
    assert read_losses((), None, 0.25, 3) == {
        "losses": [{"kind": "kl", "weight": 0.25, "temperature": 3}],
        "task": 0.75,
    }
    assert read_losses((), None, None, None) == {}
