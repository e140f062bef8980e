"""`edgekd init`."""

from pathlib import Path

import click

from edgekd.cli.options import TargetName, debug_option


@click.command("init")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("-t", "--target", type=TargetName(), help="Whose default recipe. Default: prune-distill-quantize.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder for recipe.toml. Default: the current one.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@debug_option
def command(model: Path | None, target: str | None, output: Path, force: bool) -> None:
    """Write a commented recipe.toml, and beside MODEL its sidecar, to be changed by you.

    Files that exist are kept unless --force is given.
    """
    from edgekd.errors import InputError
    from edgekd.files import write_atomic
    from edgekd.models.sidecar_text import commented, sidecar_path
    from edgekd.recipe import load_recipe
    from edgekd.report.console import results, say
    from edgekd.stages import KINDS
    from edgekd.target import load_target
    from edgekd.verbs.recipe_text import commented as commented_recipe

    profile, meaning = load_target(target) if target else (None, None)
    if meaning:
        say(meaning)
    recipe = load_recipe(profile.default_recipe if profile else "prune-distill-quantize", KINDS)
    path = output / "recipe.toml"
    used = f"edgekd compress {model or 'model.pt'} --target {profile.name if profile else 'TARGET'} --recipe {path}"
    texts = {path: commented_recipe(recipe, used)}
    sidecar = sidecar_path(model) if model is not None else None
    if model is not None and sidecar is not None:
        texts[sidecar] = commented(model)
    kept = [one for one in texts if one.exists() and not force]
    if len(kept) == len(texts):
        raise InputError(f"{' and '.join(map(str, kept))} exist{'s' if len(kept) == 1 else ''}; --force replaces")
    for one in kept:
        say(f"kept {one}: it exists (--force replaces it)")
    for one, text in texts.items():
        if one not in kept:
            write_atomic(one, text)
            results.print(f"wrote {one}")
    if sidecar is not None and "\n[[inputs]]" not in sidecar.read_text(encoding="utf-8"):
        say(f"next: fill in the inputs in {sidecar}, or give --input; `edgekd inspect {model}` gives a hint")
    say(f"then: edgekd plan {used.removeprefix('edgekd compress ')}")
