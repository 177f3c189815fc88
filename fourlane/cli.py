"""The command line's entry: finds a command by its name, and loads only that one.

``fourlane NAME`` is ``fourlane/commands/NAME.py``.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Any, Final

import click

from fourlane.commands.shared import Group, json_option

__all__ = ["main"]

_HOMES: Final = {
    "ai": "fourlane.commands.ai",
    "billing": "fourlane.commands.billing",
    "completion": "fourlane.commands.completion",
    "config": "fourlane.commands.config",
    "db": "fourlane.commands.db",
    "dead": "fourlane.commands.dead",
    "dev": "fourlane.commands.dev",
    "doctor": "fourlane.commands.doctor",
    "enqueue": "fourlane.commands.enqueue",
    "events": "fourlane.commands.events",
    "forward": "fourlane.commands.forward",
    "jobs": "fourlane.commands.jobs",
    "limits": "fourlane.commands.limits",
    "queues": "fourlane.commands.queues",
    "relay": "fourlane.commands.relay",
    "scheduler": "fourlane.commands.schedules",
    "schedules": "fourlane.commands.schedules",
    "status": "fourlane.commands.status",
    "webhooks": "fourlane.commands.webhooks",
    "worker": "fourlane.commands.worker",
    "workers": "fourlane.commands.workers",
}
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Commands(Group):
    """All commands, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_HOMES)

    def main(self, *args: Any, **options: Any) -> Any:
        """As click's, which ends quietly where nobody reads any more; a full disk is told in a line."""
        try:
            return super().main(*args, **options)
        except OSError as error:
            if error.errno not in _FULL or error.filename is not None:
                raise
            click.echo(f"error: cannot write: {error.strerror}", err=True)
            # What could not be written is written again at the end, to where it does no harm.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _HOMES and cmd_name not in self.commands:
            self.add_command(getattr(import_module(_HOMES[cmd_name]), cmd_name))
        return self.commands.get(cmd_name)


@click.group(
    cls=Commands,
    params=[json_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="fourlane", prog_name="fourlane")
def main() -> None:
    """Background jobs in four priority lanes on Redis."""


if __name__ == "__main__":
    main(prog_name="fourlane")
