"""`edgekd completion`."""

import click

from edgekd.cli.options import debug_option


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@debug_option
def command(shell: str) -> None:
    """Print the script that completes commands, options and target names in SHELL.

    \b
    bash: eval "$(edgekd completion bash)"            in ~/.bashrc
    zsh:  eval "$(edgekd completion zsh)"             in ~/.zshrc
    fish: edgekd completion fish | source             in ~/.config/fish/config.fish
    """  # noqa: D301
    from click.shell_completion import get_completion_class

    from edgekd.cli import group

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(group, {}, "edgekd", "_EDGEKD_COMPLETE").source())
