"""Write the pages that are made from the code: `docs/targets.md` and `docs/recipes.md`. `--check` only compares."""

import sys
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edgekd.budget import Budget
from edgekd.device.runtimes import known_runtimes
from edgekd.recipe import DataSettings, ExportSettings, load_recipe, recipe_names
from edgekd.resources import shipped
from edgekd.stages import KINDS
from edgekd.stages.export import EXPORTERS
from edgekd.target import parse_target

HERE = Path(__file__).parent
NOTE = "<!-- made by docs/generate.py; change the code, not this page -->\n\n"


def targets_page() -> str:
    """Return the page of all shipped targets."""
    lines = ["# Targets\n", NOTE, "`edgekd targets show NAME` prints every fact with its source and confidence.\n\n"]
    lines.append(
        "A figure measured on a machine is the target's own only where the machine is one: where `/proc/device-tree/model` is one\n"
        "of the file's `board_models` (whole names, `*` stands for anything) and the memory fits `limits.memory_bytes` (more than\n"
        "half of it, because the system keeps some), or where the architecture is one of its `architectures`.\n\n"
    )
    lines.append(
        "| target | hardware | also called | runtimes (default first) | precisions | channels in multiples of | export | recognized by |\n"
    )
    lines.append("|---|---|---|---|---|---|---|---|\n")
    for path in sorted(shipped("targets").glob("*.toml")):
        target = parse_target(path)
        runtimes = [target.default_runtime, *(name for name in target.runtime if name != target.default_runtime)]
        ready = [name for name in runtimes if name in EXPORTERS]
        cells = [
            f"`{target.name}`",
            target.title,
            ", ".join(f"`{alias}`" for alias in target.aliases),
            ", ".join(runtimes),
            ", ".join(target.runtime[target.default_runtime].precisions),
            str(target.channels.granularity),
            "yes" if runtimes[0] in ready else f"with `--runtime {ready[0]}`" if ready else "not yet",
            ", ".join(f"`{name}`" for name in (*target.board_models, *target.architectures)),
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    lines.append(f"\nRuntimes that the device half runs: {', '.join(f'`{name}`' for name in known_runtimes())}.\n")
    return "".join(lines)


def recipes_page() -> str:
    """Return the page of the shipped recipes and every setting."""
    lines = ["# Recipes\n", NOTE]
    lines.append(
        "A recipe is TOML: `[[stage]]` tables in order, and `[data]`, `[budget]`, `[export]`. `edgekd init` writes one with comments.\n"
        "It may name code of yours (`metric` and `[data] source` as `package.module:function`), which is then run: read a stranger's\n"
        "recipe before you use it. A model, its sidecar and a run directory never name code.\n\n"
    )
    lines.append("| shipped recipe | what it does |\n|---|---|\n")
    for name in recipe_names():
        recipe = load_recipe(name, KINDS)
        lines.append(f"| `{name}` | {recipe.description} |\n")
    for kind, settings in KINDS.items():
        lines.append(f'\n## kind = "{kind}"\n\n{_text(settings)}\n\n{_table(settings)}')
    for name, settings in (("data", DataSettings), ("budget", Budget), ("export", ExportSettings)):
        lines.append(f"\n## [{name}]\n\n{_text(settings)}\n\n{_table(settings)}")
    return "".join(lines)


def _text(settings: type[BaseModel]) -> str:
    return " ".join(line.strip() for line in (settings.__doc__ or "").strip().splitlines())


def _table(settings: type[BaseModel]) -> str:
    schema = settings.model_json_schema()["properties"]
    rows = ["| setting | type | default | meaning |\n|---|---|---|---|\n"]
    for name, field in settings.model_fields.items():
        if name != "kind":
            default = "required" if field.default is PydanticUndefined else _shown(field.default)
            rows.append(f"| `{name}` | {_type(schema[name])} | {default} | {field.description or ''} |\n")
    return "".join(rows)


def _shown(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(schema: dict[str, object]) -> str:
    options = schema.get("anyOf")
    if isinstance(options, list):
        return " or ".join(_type(option) for option in options if option.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])  # type: ignore[attr-defined]
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"  # type: ignore[arg-type]
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    words = [f"{word} {schema[key]}" for key, word in limits.items() if key in schema]
    return f"{schema.get('type', 'value')}{' ' + ', '.join(words) if words else ''}"


def main() -> None:
    """Write the pages, or with `--check` exit with 1 where they differ."""
    for name, text in (("targets.md", targets_page()), ("recipes.md", recipes_page())):
        path = HERE / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                sys.exit(f"{path} is not what the code says; run python docs/generate.py")
        else:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
