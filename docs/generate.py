"""Write the pages that are made from the code: targets, recipes, methods and rewrites. `--check` only compares."""

import json
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
from edgekd.stages.rewrite import kinds as _rewrites  # noqa: F401  # registers all
from edgekd.stages.rewrite.rewrite import REWRITES
from edgekd.target import parse_target
from edgekd.verbs.methods.bench import read_arms
from edgekd.verbs.methods.catalogue import EVIDENCE, Method, catalogue
from edgekd.verbs.statistics import Paired, paired

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


def rewrites_page() -> str:
    """Return the page of the rewrites."""
    lines = ["# Rewrites\n", NOTE]
    lines.append(REWRITES_TEXT)
    for kind, rewrite in sorted(REWRITES.items(), key=lambda one: (one[1].works_on == "onnx", one[0])):
        place = "the torch network" if rewrite.works_on == "torch" else "the ONNX file, and leaves one"
        lines.append(
            f"\n## `{kind}`\n\n{_text(rewrite)}\n\nOn {place}; for {rewrite.applies}. Source: {rewrite.source}."
        )
        lines.append(f" edgekd variant: {rewrite.variant}." if rewrite.variant else "")
        lines.append(f" Evidence {rewrite.evidence}.\n\n{_table(rewrite)}")
    return "".join(lines)


REWRITES_TEXT = """\
A rewrite computes the same, or nearly, with fewer or other operators.

```sh
edgekd rewrite model.pt --target raspberry-pi-5 --rewrite fold-batch-norm --rewrite low-rank:energy=0.99
edgekd rewrite model.pt --target raspberry-pi-5 --rewrite 'drop-branches:modules=["side","aux"]'   # a list: in single quotes
```

```toml
[[stage]]
kind = "rewrite"
rewrites = ["merge-branches", { kind = "kv-low-rank", to_values = 0.5 }]
```

- Rewrites are done in the order they are named; those of the torch network come before those of the ONNX file. On the torch network
  they stand before or after `prune` and `distill`, and before `quantize`. After one of the ONNX file only `quantize` can follow.
- Each is compared with what was there before, on the validation part: `tolerance` is the largest difference of an output, as a share of
  the largest one. An exact rewrite that exceeds it fails the stage. One that is not exact notes the metric before and after; a `distill`
  stage behind it recovers what it can.
- Where this machine is the target, each is timed against what was there before, in interleaved rounds, and taken back where it does
  not pay (`keep = "if-better"`):

  | measured | |
  |---|---|
  | faster | kept |
  | not distinguishable | kept where the file gets smaller by 5 % or more, and `kv-low-rank`, for the memory of a cache of keys and values; else taken back |
  | slower | taken back |

  The log says why. Elsewhere nothing is timed, all are kept and the notes say so. `keep = "always"` times nothing. `replace-activation`
  is never taken back: the target may not run the other one at all.
- A rewrite that finds nothing to do says so and leaves the network as it is. `notes` of the stage's `state.json` hold all of this.

The network's layers are found by running it once; its code is not changed, so taps, names in `keep` and pruning work as before. Code that
takes another way for other data is not seen; where a rewrite would be wrong for it, the outputs on the validation part tell.

**Static inputs.** `hoist-static-inputs` is for networks that score many candidates of one user, or many frames of one map. The
data set and the training have a row of the static input for every sample, (N, d). The rewritten file takes it once, (1, d), beside any
number of samples of the other inputs; with one sample a call it scores a data set as before. Figures of the report are those of one
sample a call; what many save stands in the notes, for `candidates` samples, predicted, counted and timed.
"""


ROLES = {
    "loss": "Losses: `losses = [...]`",
    "importance": "Importance: `importance` of a loss",
    "layers": "Layer policies: `layers` of a feature loss",
    "committee": "Committees: `committee`",
    "gradient_filter": "Gradient filters: `gradient_filter`",
}
CAPABILITIES = {
    "C01": "C01, answers", "C02": "C02, features", "C03": "C03, trust", "C04": "C04, several teachers",
    "C05": "C05, other modalities",
}  # fmt: skip
RESULTS = HERE.parent / "benchmarks" / "methods" / "results.json"
SCRIPTS = HERE.parent / "benchmarks" / "distillation" / "results.json"


def methods_page() -> str:
    """Return the page of all distillation methods."""
    effects = measured_effects()
    lines = ["# Distillation methods\n", NOTE]
    lines.append(
        'Each is named in a recipe\'s distill stage: `losses = ["kl", { kind = "hint", weight = 0.5 }]`. `edgekd methods show NAME`\n'
        "prints one with all its settings. Coefficients may be schedules: `weight = { start = 0, end = 1, until = 0.3 }`.\n\n"
        "Evidence says how far a mechanism can be trusted:\n\n"
    )
    lines += [f"- **{tag}** {meaning}\n" for tag, meaning in EVIDENCE.items()]
    lines.append(
        "\nWhat is edgekd's own detail is named as our variant, never as the authors' method. Measured effects are the mean difference\n"
        "from the arm without distillation, with its 95 % interval, of `benchmarks/methods`, or what a script of\n"
        "`benchmarks/distillation` found; without one, none was measured.\n"
    )
    for role, title in ROLES.items():
        lines.append(f"\n## {title}\n")
        for method in catalogue():
            if method.role == role:
                lines.append(_method_text(method, effects.get(method.kind, [])))
    return "".join(lines)


def _method_text(method: Method, effects: list[str]) -> str:
    lines = [
        f"\n### `{method.kind}`\n\n{method.title} ({CAPABILITIES[method.capability]}). {method.source}. Evidence {method.evidence}."
    ]
    lines += [f" edgekd variant: {method.variant.rstrip('.')}."] if method.variant else []
    lines += [f"\n\n- applies to: {method.applies}"] if method.applies else []
    if method.needs:
        lines.append(f"\n- needs: {', '.join(method.needs)}")
    defaults = [
        f"`{one.name}` {'required' if one.required else json.dumps(one.default)}"
        for one in method.settings
        if one.required or one.default is not None
    ]
    lines.append(f"\n- defaults: {', '.join(defaults) or 'none'}")
    lines.append(f"\n- measured: {'; '.join(effects) if effects else 'nothing yet'}\n")
    return "".join(lines)


def measured_effects() -> dict[str, list[str]]:
    """Return what the bench found for every kind, in words; an arm of several methods counts for each of them."""
    if not RESULTS.exists():
        return {}
    found: dict[str, list[str]] = {}
    arms = read_arms(None)
    for table in json.loads(RESULTS.read_text(encoding="utf-8"))["tables"]:
        for row in table["arms"]:
            if row["difference"] is None:
                continue
            one = row["difference"]
            words = f"{table['data']}, {row['name']}: {one['mean']:+.2f} ({one['low']:+.2f} to {one['high']:+.2f})"
            for arm in arms:
                if arm.data == table["data"] and arm.name == row["name"]:
                    for kind in arm.kinds():
                        found.setdefault(kind, []).append(words)
    for kind, words in effects_of_scripts().items():
        found.setdefault(kind, []).append(words)
    return found


def effects_of_scripts() -> dict[str, str]:
    """Return what the scripts of `benchmarks/distillation` found for methods that they are about."""
    results = json.loads(SCRIPTS.read_text(encoding="utf-8")) if SCRIPTS.exists() else {}
    found = {}
    if "leap" in results:
        one = results["leap"]
        words = f"{one['saved']:.0%} of the teacher's work saved"
        if "difference" in one:
            words += " at {} points ({}) against the last block alone".format(*Paired(**one["difference"]).in_words())
        found["leap"] = found["cka-curriculum"] = f"transformers, {words}"
    if "missing_modality" in results:
        runs = results["missing_modality"]["accuracy"]
        dropped, learned = (runs[arm] for arm in ("the same, views dropped in training", "tokens and missing-modality"))
        for_a = paired([mine["without a"] - other["without a"] for mine, other in zip(learned, dropped, strict=True)])
        difference, interval = for_a.in_words()
        found["missing-modality"] = (
            f"two-view without view a: {difference} ({interval}) against dropping views in training alone"
        )
    return found


def _text(settings: type[BaseModel]) -> str:
    return " ".join((settings.__doc__ or "").split())


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


_REFERENCES = {"Schedule": "number or schedule", "Phase": "table"}


def _type(schema: dict[str, object]) -> str:
    if "$ref" in schema:
        return _REFERENCES.get(str(schema["$ref"]).rpartition("/")[2], "name or table")
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
    for name, text in (
        ("targets.md", targets_page()),
        ("recipes.md", recipes_page()),
        ("methods.md", methods_page()),
        ("rewrites.md", rewrites_page()),
    ):
        path = HERE / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                sys.exit(f"{path} is not what the code says; run python docs/generate.py")
        else:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
