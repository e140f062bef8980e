"""A recipe as commented TOML: every setting with its value, what it does and what it may be, read off the settings."""

import json
import textwrap
import types
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgekd.recipe import Recipe

_WIDTH = 110
_COMMENT_AT = 40  # the widest setting that has its comment behind it


def commented(recipe: Recipe, command: str) -> str:
    """Return the whole recipe as TOML that `parse_recipe` reads; settings that are not set are commented examples.

    Args:
        recipe: what to write.
        command: how the file is used, for its first lines.
    """
    blocks = [
        _comment(f"{recipe.name}: {recipe.description}" if recipe.description else recipe.name)
        + _comment("A setting that begins with # is not set; its value is only an example. Use this file with")
        + _comment(f"  {command}"),
        _settings(recipe, leave_out=("data", "budget", "stages", "export")),
        _comment(_purpose(recipe.data)) + "[data]\n" + _settings(recipe.data),
        _comment(_purpose(recipe.budget)) + "[budget]\n" + _settings(recipe.budget),
    ]
    if not recipe.stages:
        blocks.append(
            _comment("No stages: the network is exported as it is. A stage begins with [[stage]] and its kind.")
        )
    for stage in recipe.stages:
        head = f'[[stage]]\nkind = "{stage.kind}"\n'
        blocks.append(_comment(_purpose(stage)) + head + _settings(stage, leave_out=("kind",)))
    blocks.append(_comment(_purpose(recipe.export)) + "[export]\n" + _settings(recipe.export))
    return "\n".join(blocks)


def _settings(model: BaseModel, leave_out: tuple[str, ...] = ()) -> str:
    """Return a line for every setting of a model; long ones have their comment above."""
    text = ""
    fields = {name: field for name, field in type(model).model_fields.items() if name not in leave_out}
    lines = {name: _line(name, getattr(model, name), field) for name, field in fields.items()}
    width = max((len(line) for line in lines.values() if len(line) <= _COMMENT_AT), default=0)
    for name, field in fields.items():
        about = "; ".join(part for part in (field.description, allowed(field)) if part)
        if len(lines[name]) > _COMMENT_AT or width + 4 + len(about) > _WIDTH:
            text += f"{_comment(about)}{lines[name]}\n"
        else:
            text += f"{lines[name]:<{width}}  # {about}\n" if about else f"{lines[name]}\n"
    return text


def _line(name: str, value: Any, field: FieldInfo) -> str:
    if value is None:
        return f"# {name} = {_toml(example(field))}"
    return f"{name} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, BaseModel):
        own = value.model_dump(mode="json", exclude_defaults=True)
        kind = getattr(value, "kind", None)
        if isinstance(own, dict) and kind is not None:
            own = {"kind": kind, **own} if own else kind
        return _toml(own)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_toml(one)}" for name, one in value.items()) + " }"
    return repr(value)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)


def allowed(field: FieldInfo) -> str:
    """Return what values a setting may have, in words: choices or limits."""
    kind = _without_none(field.annotation)
    inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
    if get_origin(inner) is Literal:
        choices = [str(choice) for choice in get_args(inner)]
        return f"{'any of' if inner is not kind else 'one of'} {', '.join(choices)}"
    words = []
    for limit in field.metadata:
        match limit:
            case Gt(gt):
                words.append(f"above {gt:,}")
            case Ge(ge):
                words.append(f"from {ge:,}")
            case Lt(lt):
                words.append(f"below {lt:,}")
            case Le(le):
                words.append(f"to {le:,}")
    return " ".join(words)


def example(field: FieldInfo) -> Any:
    """Return a value that a setting may have: one of its own examples, else made from its type and limits."""
    if field.examples:
        return field.examples[0]
    kind = _without_none(field.annotation)
    inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
    if get_origin(inner) is Literal:
        choices = get_args(inner)
        return list(choices) if inner is not kind else choices[0]
    if inner is str:
        return ["name"] if inner is not kind else "accuracy" if "accuracy" in (field.description or "") else "name"
    limits = {type(limit): limit for limit in field.metadata}
    low = next((float(getattr(limits[one], one.__name__.lower())) for one in (Gt, Ge) if one in limits), None)
    high = next((float(getattr(limits[one], one.__name__.lower())) for one in (Lt, Le) if one in limits), None)
    if low is not None and high is not None and high - low <= 1:
        return (low + high) / 2
    value = 1.0 if low is None else low + 1
    return int(value) if kind is int else value


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0]
    return annotation


def _purpose(model: BaseModel) -> str:
    """Return the first paragraph of a settings class's own description."""
    text = " ".join((type(model).__doc__ or "").split("\n\n")[0].split())
    return text


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False, subsequent_indent="")
    indent = text[: len(text) - len(text.lstrip())]
    return "".join(f"# {indent if not number else ''}{line.strip()}\n" for number, line in enumerate(lines))
