from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekd.errors import InputError
from edgekd.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from edgekd.stages import KINDS
from edgekd.stages.prune.settings import PruneSettings

GOOD = """
name = "mine"
seed = 3
[data]
calibration = 256
[budget]
accuracy_drop = 0.5
[[stage]]
kind = "prune"
to_macs = 0.5
[[stage]]
kind = "distill"
epochs = 2
[[stage]]
kind = "quantize"
calibrators = ["mse"]
[export]
input = "uint8"
"""


def test_a_recipe_is_read_with_its_stages_in_order() -> None:
    recipe = parse_recipe(GOOD, KINDS)
    assert [stage.kind for stage in recipe.stages] == ["prune", "distill", "quantize"]
    assert isinstance(recipe.stages[0], PruneSettings) and recipe.stages[0].to_macs == 0.5
    assert recipe.seed == 3 and recipe.budget.accuracy_drop == 0.5 and recipe.export.input == "uint8"


def test_json_holds_every_setting_with_its_default() -> None:
    content = parse_recipe(GOOD, KINDS).to_json()
    assert content["stages"][1]["task"] == 0.3 and content["stages"][1]["momentum"] == 0.9
    assert content["data"]["validation"] == 0.05


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_good(name: str) -> None:
    recipe = load_recipe(name, KINDS)
    assert recipe.name == name and recipe.description


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("to_macs = 0.5", "to_macs = 1.5"), ["stage 1 (prune)", "to_macs", "less than 1"]),
        (("to_macs = 0.5", "to_mac = 0.5"), ["stage 1 (prune)", "to_mac: there is no such setting"]),
        (("to_macs = 0.5", "to_macs = 0.5\nto_parameters = 0.5"), ["exactly one of to_macs"]),
        (('kind = "distill"', 'kind = "destill"'), ["stage 2", "'destill'", "did you mean 'distill'"]),
        (('kind = "distill"', ""), ["stage 2", "kind None", "prune, mask, distill, quantize"]),
        (("epochs = 2", 'epochs = "two"'), ["stage 2 (distill)", "epochs", "must be a whole number, not 'two'"]),
        (("seed = 3", "seed = -1"), ["seed", "greater than or equal to 0"]),
        (('[[stage]]\nkind = "prune"', '[stage]\nkind = "prune"'), ["not valid TOML"]),
        (("calibration = 256", "calibration = 0"), ["data.calibration", "greater than or equal to 1"]),
        (('calibrators = ["mse"]', "calibrators = []"), ["stage 3 (quantize)", "calibrators: name one at least"]),
        (('input = "uint8"', 'input = "int8"'), ["export.input", "'float32' or 'uint8'"]),
        (("accuracy_drop = 0.5", "acuracy_drop = 0.5"), ["budget.acuracy_drop"]),
    ],
)
def test_a_wrong_field_is_named_with_what_it_should_be(change: tuple[str, str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        parse_recipe(GOOD.replace(*change), KINDS, origin="mine.toml")
    message = str(caught.value)
    assert "mine.toml" in message and "\n" not in message
    for word in words:
        assert word in message


def test_a_single_stage_table_gets_advice() -> None:
    with pytest.raises(InputError, match="one \\[\\[stage\\]\\] table"):
        parse_recipe('[stage]\nkind = "prune"', KINDS)


def test_an_unknown_recipe_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quantize"):
        load_recipe(tmp_path / "none.toml", KINDS)


VALUES = st.one_of(
    st.integers(-5, 2**40), st.floats(), st.booleans(), st.text(max_size=8), st.lists(st.integers(), max_size=3),
    st.sampled_from(["prune", "distill", "quantize", "", "float32", "global"]),
)  # fmt: skip
FIELDS = sorted({name for kind in KINDS.values() for name in kind.model_fields} | {"kind", "wrong"})


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08X}" for c in value if not 0xD800 <= ord(c) <= 0xDFFF) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


@settings(max_examples=250, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4), max_size=4),
    st.dictionaries(st.sampled_from([*Recipe.model_fields, "stage", "odd"]), VALUES, max_size=3),
)
def test_generated_recipes_are_read_or_refused_in_one_line(
    stages: list[dict[str, object]], top: dict[str, object]
) -> None:
    lines = [f"{name} = {toml(value)}" for name, value in top.items()]
    for stage in stages:
        lines += ["[[stage]]", *(f"{name} = {toml(value)}" for name, value in stage.items())]
    try:
        parse_recipe("\n".join(lines), KINDS)
    except InputError as error:
        assert "\n" not in str(error)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 12), st.text(alphabet='[]="#\n.{}x0-', max_size=6))
def test_damaged_recipes_are_read_or_refused(position: int, length: int, put: str) -> None:
    try:
        parse_recipe(GOOD[:position] + put + GOOD[position + length :], KINDS)
    except InputError as error:
        assert str(error)
