from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekd.target import explain


class Settings(BaseModel):
    """Settings with one of each kind of field."""

    model_config = ConfigDict(extra="forbid")

    needed: int = 1
    share: float = Field(default=0.5, gt=0, lt=1)
    some: tuple[str, ...] = Field(default=("a",), min_length=1, max_length=2)
    word: Literal["one", "two"] = "one"
    flag: bool = False
    name: str = Field(default="x", min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.needed == 0 and self.flag:
            raise ValueError("flag needs needed; set needed = 1")
        return self


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"needed": "many"}, "needed: must be a whole number, not 'many'"),
        ({"needed": 1.5}, "needed: must be a whole number, not 1.5"),
        ({"share": 2}, "share: must be less than 1, not 2"),
        ({"some": []}, "some: name one at least"),
        ({"some": ["a", "b", "c"]}, "some: name 2 at most, not 3"),
        ({"some": "a"}, 'some: must be a list, such as ["a", "b"], not \'a\''),
        ({"word": "three"}, "word: must be 'one' or 'two', not 'three'"),
        ({"flag": "perhaps"}, "flag: must be true or false, not 'perhaps'"),
        ({"name": ""}, "name: must not be empty"),
        ({"nam": "x"}, "nam: there is no such setting here; remove it, or correct its name"),
        ({"needed": 0, "flag": True}, "flag needs needed; set needed = 1"),
    ],
)
def test_a_finding_names_the_field_and_what_it_must_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(given)
    assert explain(caught.value) == said
