"""Targets: one piece of hardware a file, `targets/<name>.toml`, read into a frozen `Target`. A target knows no stage."""

import difflib
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekd.errors import InputError
from edgekd.findings import in_words
from edgekd.resources import shipped

NAME_PATTERN = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fact(_Frozen):
    """A fact about the hardware: its value, where it comes from and how far it can be trusted.

    `confidence`: `high` is a vendor's datasheet or a measurement with its log, `medium` one secondary source,
    `low` a derivation or an unchecked statement.
    """

    value: bool | int | Annotated[float, Field(allow_inf_nan=False)] | str
    unit: str | None = None
    source: str = Field(min_length=1)
    confidence: Literal["high", "medium", "low"]


class Channels(_Frozen):
    """The multiple to which structured pruning rounds channel counts, because the kernels work in such blocks."""

    granularity: int = Field(ge=1, le=256)
    source: str = Field(min_length=1)
    confidence: Literal["high", "medium", "low"]


class QuantizationScheme(_Frozen):
    """What the runtime executes fast in integers: one description, which every executor writes in its own form.

    Activations are per tensor. A symmetric scheme has zero point 0, so its activations are signed. `weight_axis` is the
    output-channel axis of a convolution's weight (O, I, H, W), for one scale a channel. Weights of the range `seven-bit`
    lie in -64..64: two products with an unsigned activation then fit the 16 bits in which x86 without VNNI adds them up.
    An empty `operators` leaves the choice to the executor.
    """

    activation_dtype: Literal["uint8", "int8", "int16"] = "uint8"
    activation_symmetric: bool = False
    weight_dtype: Literal["int8", "int4"] = "int8"
    weight_symmetric: bool = True
    weight_range: Literal["full", "seven-bit"] = "full"
    per_channel: bool = True
    weight_axis: int = Field(default=0, ge=0, le=3)
    power_of_two: bool = False
    operators: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @property
    def weight_limit(self) -> int:
        """Return the largest integer of a symmetric weight; the least is its negative."""
        if self.weight_dtype == "int4":
            return 7
        return 64 if self.weight_range == "seven-bit" else 127

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        if self.activation_symmetric and self.activation_dtype == "uint8":
            raise ValueError(
                'activation_symmetric has zero point 0, where activation_dtype = "uint8" holds no negative value; '
                'set activation_dtype = "int8" or activation_symmetric = false'
            )
        if self.weight_range == "seven-bit" and (self.weight_dtype != "int8" or not self.weight_symmetric):
            raise ValueError(
                'weight_range = "seven-bit" is for weight_dtype = "int8" with weight_symmetric = true; set it to "full"'
            )
        if self.power_of_two and not self.weight_symmetric:
            raise ValueError("power_of_two scales need weight_symmetric = true")
        if self.weight_axis and not self.per_channel:
            raise ValueError("weight_axis is for one scale a channel; set per_channel = true or leave weight_axis out")
        return self


class Runtime(_Frozen):
    """How one runtime on this hardware wants its model. `quantization` is absent where it runs no int8.

    Networks are written in `opset`; `newest_opset` is the last one that it was seen to read, where that is a later one.
    """

    precisions: tuple[Literal["fp32", "fp16", "bf16", "int8", "int4", "spike"], ...] = Field(min_length=1)
    batch: Literal["dynamic"] | Annotated[int, Field(ge=1)] = "dynamic"
    opset: Annotated[int, Field(ge=18, le=25)] | None = None
    newest_opset: Annotated[int, Field(ge=18, le=25)] | None = None
    threads: int = Field(default=1, ge=1)
    versions: str | None = None
    note: str | None = None
    quantization: QuantizationScheme | None = None

    @property
    def reads_opset(self) -> int | None:
        """Return the last opset that it reads, None where no limit is known."""
        return self.newest_opset or self.opset

    @model_validator(mode="after")
    def _runs_what_it_describes(self) -> Self:
        if self.quantization is not None and not {"int8", "int4"} & set(self.precisions):
            raise ValueError('quantization describes integers, but precisions names neither "int8" nor "int4"')
        return self


class Limits(_Frozen):
    """Hard limits; an absent one is not known to exist."""

    memory_bytes: int | None = Field(default=None, gt=0)
    model_bytes: int | None = Field(default=None, gt=0)
    max_batch: int | None = Field(default=None, ge=1)
    operators: tuple[str, ...] | None = None  # ONNX operators the hardware executes; absent: no list
    input_channels: int | None = Field(default=None, ge=1)


class Target(_Frozen):
    """One piece of hardware: facts with their sources, limits, channel granularity and its runtimes.

    `aliases` maps another name to the sentence that says, on use, what it means. `default_runtime` is the one that
    `compress` exports for, `default_recipe` a name from `edgekd/recipes/`.

    A machine is this target, and a figure measured on it the target's own, when its device tree's model is one of
    `board_models` (whole names, `*` stands for anything) and its memory fits `limits.memory_bytes`, or when its
    architecture is one of `architectures`. With neither no machine ever is.
    """

    name: str = Field(pattern=NAME_PATTERN)
    title: str = Field(min_length=1)
    family: str = Field(pattern=NAME_PATTERN)
    aliases: dict[str, str] = {}
    board_models: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    architectures: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    default_recipe: str = "prune-distill-quantize"
    default_runtime: str
    facts: dict[str, Fact]
    limits: Limits = Limits()
    channels: Channels
    runtime: dict[str, Runtime] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_runtime_exists(self) -> "Target":
        if self.default_runtime not in self.runtime:
            raise ValueError(
                f"default_runtime {self.default_runtime!r} has no section [runtime.{self.default_runtime}]"
            )
        return self


def search_folders() -> list[Path]:
    """Return the folders that are searched for targets, first match wins: ./targets, the user's, the shipped ones."""
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [Path("targets"), configuration / "edgekd" / "targets", shipped("targets")]


def parse_target(path: Path) -> Target:
    """Read one target file.

    Raises:
        InputError: the file cannot be read, is not TOML, or a field is wrong; the message names field and fix.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the target file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # wrong syntax, not UTF-8, an integer too long, nested too deep
        raise InputError(f"{path} is not valid TOML: {error}") from error
    try:
        return Target.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from error


_ALTERNATIVE = re.compile(r"(function-\w+|literal|is-instance|constrained-\w+)\[")  # no field, but one of several types


def fields_of(place: Sequence[str | int]) -> list[str | int]:
    """Return the fields and numbers in where pydantic found something, without the names of alternative types."""
    return [part for part in place if not _ALTERNATIVE.match(str(part))]


def explain(error: ValidationError) -> str:
    """Return pydantic's findings as one line: the field's dotted path, where it is one field's, and what it should be."""
    lines = []
    for finding in error.errors(include_url=False):
        where = ".".join(map(str, fields_of(finding["loc"])))
        lines.append(f"{where}: {in_words(finding)}" if where else in_words(finding))
    return "; ".join(lines)


def target_files() -> dict[str, Path]:
    """Return every target file found, by its file name without suffix, sorted."""
    found: dict[str, Path] = {}
    for folder in search_folders():
        for path in sorted(folder.glob("*.toml")) if folder.is_dir() else []:
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def load_target(name: str) -> tuple[Target, str | None]:
    """Return the target of that name, alias or path, and what the alias means if it was one.

    Raises:
        InputError: no such target (the nearest names are shown), or its file is wrong.
    """
    if name.endswith(".toml") or "/" in name:
        return parse_target(Path(name)), None
    files = target_files()
    if name in files:
        return parse_target(files[name]), None
    aliases: dict[str, tuple[Target, str]] = {}
    for path in files.values():
        try:
            target = parse_target(path)
        except InputError:  # someone's broken file hides its own aliases, no others
            continue
        aliases = {alias: (target, meaning) for alias, meaning in target.aliases.items()} | aliases
    if name in aliases:
        target, meaning = aliases[name]
        return target, f"{name} means {target.name}: {meaning}"
    nearest = difflib.get_close_matches(name, [*files, *aliases], n=3, cutoff=0.4)
    hint = f"nearest: {', '.join(nearest)}" if nearest else "`edgekd targets list` shows them all"
    raise InputError(f"unknown target {name!r}; {hint}")
