import tomllib

import pytest

from edgekd.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from edgekd.stages import KINDS
from edgekd.stages.prune.settings import BUDGETS
from edgekd.verbs.recipe_text import commented, example


@pytest.mark.parametrize("name", recipe_names())
def test_the_text_is_the_recipe(name: str) -> None:
    recipe = load_recipe(name, KINDS)
    text = commented(recipe, "edgekd compress")
    assert parse_recipe(text, KINDS) == recipe
    assert max(map(len, text.splitlines())) <= 120


def test_every_setting_is_there_and_says_what_it_does() -> None:
    recipe = load_recipe("prune-distill-quantize", KINDS)
    required = {
        "mask": {"sparsity": 0.5},
        "rewrite": {"rewrites": ["fold-batch-norm", {"kind": "low-rank", "rank": 4}]},
    }
    used = {stage.kind for stage in recipe.stages}
    others = [one.model_validate(required.get(kind, {})) for kind, one in KINDS.items() if kind not in used]
    text = commented(recipe.model_copy(update={"stages": (*recipe.stages, *others)}), "edgekd compress")
    sections = [(kind, settings) for kind, settings in KINDS.items()]
    sections += [(name, type(getattr(Recipe(), name))) for name in ("data", "budget", "export")]
    for kind, settings in sections:
        for name, field in settings.model_fields.items():
            if name != "kind":
                assert field.description, f"{kind}.{name}: give the field a description"
                assert f"{name} = " in text


def test_the_examples_may_be_used() -> None:
    text = commented(load_recipe("prune-distill-quantize", KINDS), "edgekd compress")
    lines = text.splitlines()
    candidates = [number for number, line in enumerate(lines) if line.startswith("# ") and " = " in line.split("#")[1]]
    assert len(candidates) > 10
    for number in candidates:
        name = lines[number].removeprefix("# ").split(" = ")[0]
        changed = [*lines[:number], lines[number].removeprefix("# "), *lines[number + 1 :]]
        if name in BUDGETS:  # in place of to_macs
            changed = [line for line in changed if not line.startswith("to_macs")]
        if name in ("weights", "activations", "block", "scales"):  # of what is trained
            changed = [line.replace("simulate = false", "simulate = true") for line in changed]
        tomllib.loads("\n".join(changed))
        parse_recipe("\n".join(changed), KINDS)


@pytest.mark.parametrize(("kind", "name"), [("prune", "to_latency"), ("prune", "granularity"), ("distill", "warmup")])
def test_examples_lie_within_the_limits(kind: str, name: str) -> None:
    value = example(KINDS[kind].model_fields[name])
    assert KINDS[kind].model_validate({**({"to_macs": 0.5} if name == "granularity" else {}), name: value})


def test_a_recipe_without_stages_says_so() -> None:
    assert (
        "[[stage]]" in commented(Recipe(), "edgekd export") and parse_recipe(commented(Recipe(), ""), KINDS) == Recipe()
    )
