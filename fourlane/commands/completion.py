"""``fourlane completion``: for the shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from fourlane.commands.shared import say

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL, e.g. eval "$(fourlane completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    source = kind(click.get_current_context().find_root().command, {}, "fourlane", "_FOURLANE_COMPLETE").source()
    say(source, shell=shell, script=source)
