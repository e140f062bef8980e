"""Recipes: the ordered list of stage settings, with data, metric, budget and export; TOML, checked at the boundary."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekd.budget import Budget
from edgekd.data.dataset import Augmentation
from edgekd.errors import InputError
from edgekd.target import explain

SHIPPED = Path(__file__).with_name("recipes")


class StageSettings(BaseModel):
    """Base of every stage's settings; `kind` is what a recipe calls it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Frozen):
    """What data, and how they are cut into train, calibration, validation and evaluation part."""

    source: str | None = Field(
        default=None,
        description="image folder, .npz, set name or package.module:function; the model's sidecar names it",
    )
    calibration: int = Field(default=512, ge=1, le=100_000, description="samples that set the ranges of quantization")
    validation: float = Field(default=0.05, gt=0, lt=1, description="share that decides, between calibrators for one")
    evaluation: float = Field(
        default=0.2, gt=0, lt=1, description="share that only reports; a source's own test half comes first"
    )
    limit: int = Field(default=60_000, ge=2, description="most images that are read of a folder")
    augmentations: tuple[Augmentation, ...] | None = Field(
        default=None, description="replace those that the data set itself declares"
    )


class ExportSettings(_Frozen):
    """The artifact, which goes to the device."""

    input: Literal["float32", "uint8"] = Field(
        default="float32", description="uint8: raw bytes go in, the preprocessing is inside the graph"
    )
    include_samples: bool = Field(
        default=False, description="put real evaluation samples in, where the data's licence would not"
    )


class Recipe(_Frozen):
    """A checked recipe. An empty `stages` exports the network as it is."""

    name: str = Field(default="recipe", description="what reports call it")
    description: str = Field(default="", description="one line for a person")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of everything random")
    metric: str | None = Field(
        default=None,
        description="accuracy, mse, mae, miou, auc, recall, token-accuracy, agreement, cosine, sqnr or package.module:function",
    )
    data: DataSettings = DataSettings()
    budget: Budget = Budget()
    stages: tuple[StageSettings, ...] = ()
    export: ExportSettings = ExportSettings()

    def to_json(self) -> dict[str, Any]:
        """Return the whole recipe, defaults included, as plain JSON."""
        content = self.model_dump(mode="json", exclude={"stages"})
        return {**content, "stages": [stage.model_dump(mode="json") for stage in self.stages]}


def parse_recipe(text: str, kinds: Mapping[str, type[StageSettings]], origin: str = "recipe") -> Recipe:
    """Read a recipe; `[[stage]]` tables in order, each with its `kind`.

    Raises:
        InputError: not TOML, an unknown kind, or a wrong field; the message names the field and what it should be.
    """
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # wrong syntax, an integer too long, nested too deep
        raise InputError(f"{origin} is not valid TOML: {error}") from error
    tables = content.pop("stage", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{origin}: stage: write one [[stage]] table a stage, with double brackets")
    if "stages" in content:
        raise InputError(f"{origin}: stages: write one [[stage]] table a stage")
    stages = [_parse_stage(table, number, kinds, origin) for number, table in enumerate(tables, 1)]
    try:
        recipe = Recipe.model_validate({**content, "stages": ()})
    except ValidationError as error:
        raise InputError(f"{origin}: {explain(error)}") from error
    return recipe.model_copy(update={"stages": tuple(stages)})


def _parse_stage(
    table: dict[str, Any], number: int, kinds: Mapping[str, type[StageSettings]], origin: str
) -> StageSettings:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        nearest = difflib.get_close_matches(str(kind), kinds, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise InputError(f"{origin}: stage {number}: kind {kind!r} is not one of {', '.join(kinds)}{hint}")
    try:
        return kinds[kind].model_validate(table)
    except ValidationError as error:
        raise InputError(f"{origin}: stage {number} ({kind}): {explain(error)}") from error


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_recipe(name: str | Path, kinds: Mapping[str, type[StageSettings]]) -> Recipe:
    """Read a recipe file, or a shipped recipe by its name.

    Raises:
        InputError: there is none, or it is wrong.
    """
    path = SHIPPED / f"{name}.toml" if str(name) in recipe_names() else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        shipped = ", ".join(recipe_names())
        raise InputError(
            f"cannot read the recipe {str(name)!r}: no such file, none of that name ({shipped})"
        ) from error
    return parse_recipe(text, kinds, origin=str(name))
