"""Completion for shells."""

from __future__ import annotations

import importlib

import click
from click.shell_completion import get_completion_class

from flyteplugins_vol.cli.options import Options, common


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
def completion(options: Options, shell: str) -> None:
    """Print the script that makes a shell complete commands, options, names of volumes and paths in them.

    \b
    eval "$(flytevol completion bash)"                                  in ~/.bashrc
    eval "$(flytevol completion zsh)"                                   in ~/.zshrc
    flytevol completion fish > ~/.config/fish/completions/flytevol.fish
    """
    from flyteplugins_vol.cli.main import cli

    importlib.import_module("flyteplugins_vol.cli.bash_completion")  # in the place of click's

    found = get_completion_class(shell)
    assert found is not None
    script = found(cli, {}, "flytevol", "_FLYTEVOL_COMPLETE").source()
    options.output.result({"shell": shell, "script": script}, script)
