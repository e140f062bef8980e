"""Target files under a person's hands: every problem of one with its fix, and a new one made from another."""

import difflib
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from edgekd.errors import InputError
from edgekd.files import write_atomic
from edgekd.recipe import recipe_names
from edgekd.target import (
    NAME_PATTERN,
    Channels,
    Fact,
    Limits,
    QuantizationScheme,
    Runtime,
    Target,
    load_target,
    parse_target,
    target_files,
)

# What pydantic adds to a path where a field may have several types.
_ALTERNATIVES = ("str", "float", "int", "bool", "literal['dynamic']", "constrained-int")
_MODELS: tuple[type[BaseModel], ...] = (Target, Fact, Channels, Limits, Runtime, QuantizationScheme)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a target file: the field's dotted path, what is wrong, and what to do."""

    field: str
    problem: str
    fix: str

    def to_json(self) -> dict[str, str]:
        """Return plain JSON."""
        return asdict(self)


def readable_targets() -> tuple[list[Target], list[str]]:
    """Return every target whose file is good, and what is wrong with the others: one broken file hides no other."""
    targets, broken = [], []
    for path in target_files().values():
        try:
            targets.append(parse_target(path))
        except InputError as error:
            broken.append(str(error))
    return targets, broken


def problems_of(path: Path) -> list[Problem]:
    """Return every problem of a target file; an empty list means that it can be used.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the target file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        return [Problem("the file", f"it is not valid TOML: {error}", "repair that line")]
    try:
        target = Target.model_validate(content)
    except ValidationError as error:
        return _merged([_problem(finding) for finding in error.errors(include_url=False)])
    return _wrong_names(path, target)


def _problem(finding: Any) -> Problem:
    path = [str(part) for part in finding["loc"] if str(part) not in _ALTERNATIVES]
    field = ".".join(path) or "the file"
    message = str(finding["msg"]).removeprefix("Value error, ")
    last = path[-1] if path else ""
    context = finding.get("ctx", {})
    match finding["type"]:
        case "missing":
            return Problem(field, "it is missing", f"add {last} = ...")
        case "extra_forbidden":
            known = {name for model in _MODELS for name in model.model_fields}
            nearest = difflib.get_close_matches(last, known - {last}, n=1)
            return Problem(field, "there is no such setting here", f"remove it{_meant(nearest)}")
        case "literal_error" | "enum":
            return Problem(field, f"{finding['input']!r} is not allowed", f"write {context['expected']}")
        case "string_pattern_mismatch":
            return Problem(field, f"{finding['input']!r} is no name", "use small letters, digits and single dashes")
        case "too_short" | "string_too_short":
            return Problem(field, "it is empty", "fill it in")
        case _:
            if not finding["loc"] or finding["type"] == "value_error":  # a check over several settings
                return Problem(field, message, "correct one of them")
            return Problem(field, f"{finding['input']!r} does not fit", message[:1].lower() + message[1:])


def _merged(problems: list[Problem]) -> list[Problem]:
    """Join the findings about one value of a field that may have several types."""
    found: dict[tuple[str, str], Problem] = {}
    for one in problems:
        key = (one.field, one.problem)
        found[key] = Problem(*key, f"{found[key].fix}, or {one.fix}") if key in found else one
    return list(found.values())


def _meant(nearest: list[str]) -> str:
    return f", or did you mean {nearest[0]}?" if nearest else ""


def _wrong_names(path: Path, target: Target) -> list[Problem]:
    """Return what is wrong with a target only beside its file name, the other targets and the recipes."""
    found = []
    if path.stem != target.name:
        fix = f"name the file {target.name}.toml: the look-up goes by file names"
        found.append(Problem("name", f"it is {target.name!r}, the file is {path.name}", fix))
    if target.default_recipe not in recipe_names():
        fix = f"write one of {', '.join(recipe_names())}"
        found.append(Problem("default_recipe", f"there is no recipe {target.default_recipe!r}", fix))
    others = {name: file for name, file in target_files().items() if name != target.name}
    taken = {name: name for name in others}
    for name, file in others.items():
        try:
            taken |= dict.fromkeys(parse_target(file).aliases, name)
        except InputError:  # that file's own problem
            continue
    for alias in target.aliases:
        if alias in taken or alias == target.name:
            owner = taken.get(alias, target.name)
            found.append(Problem(f"aliases.{alias}", f"the name belongs to {owner} already", "choose another alias"))
    return found


def new_target(name: str, like: str, folder: Path = Path("targets")) -> Path:
    """Write `<folder>/<name>.toml`, copied from another target without its aliases, and return its path.

    Raises:
        InputError: the name is no name, the file exists, or there is no such other target.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise InputError(f"{name!r} is no name for a target: use small letters, digits and single dashes")
    path = folder / f"{name}.toml"
    if path.exists():
        raise InputError(f"{path} exists; choose another name or remove it")
    other, _ = load_target(like)
    if name in {alias for file in target_files().values() for alias in _aliases(file)}:
        raise InputError(f"{name} is an alias of a target already; choose another name")
    source = Path(like) if like.endswith(".toml") or "/" in like else target_files()[other.name]
    text = _renamed(source.read_text(encoding="utf-8"), name, other)
    write_atomic(path, text)
    try:
        parse_target(path)
    except InputError:
        path.unlink()
        raise
    return path


def _aliases(file: Path) -> list[str]:
    try:
        return list(parse_target(file).aliases)
    except InputError:
        return []


def _renamed(text: str, name: str, other: Target) -> str:
    lines = text.splitlines()
    while lines and lines[0].startswith("#"):  # what it says is about the other one
        lines.pop(0)
    kept, inside_aliases = [], False
    for line in lines:
        if line.startswith("["):
            inside_aliases = line.strip() == "[aliases]"
        if not inside_aliases:
            kept.append(line)
    body = "\n".join(kept).lstrip("\n")
    body = re.sub(r"(?m)^name\s*=.*$", f'name = "{name}"', body, count=1)
    body = re.sub(r"(?m)^title\s*=.*$", f'title = "{name}"  # as people say it', body, count=1)
    head = (
        f"# {name}: copied from {other.name}. Every fact below is one of {other.title} until you change it: put in your\n"
        "# hardware's value, where it comes from (source), and how sure it is (confidence: high, medium or low); remove\n"
        "# what you do not know. board_models: how the board names itself in /proc/device-tree/model; without them no\n"
        f"# machine is taken for this target. Then: edgekd targets validate targets/{name}.toml\n"
    )
    return f"{head}{body}\n"
