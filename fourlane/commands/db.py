"""``fourlane db``: the database's schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from fourlane.commands.shared import Group, confirm, open_app, print_json, say, wants_json, yes_option
from fourlane.commands.text import lines, moment, since, table

if TYPE_CHECKING:
    from fourlane.db.engine import Database

__all__ = ["db"]


@contextmanager
def open_database() -> Iterator[Database]:
    """The database that the settings point at."""
    with open_app() as app:
        yield app.database


@click.group(cls=Group)
def db() -> None:
    """The database's schema: DATABASE_URL, or SQLite in the data folder."""


@db.command("migrate")
def db_migrate() -> None:
    """Apply the migrations that are pending. Several may run at once."""
    from fourlane.db import migrate

    with open_database() as database:
        done = migrate.migrate(database)
        for migration in done if not wants_json() else ():
            click.echo(f"applied {migration.version} {migration.description}")
        text = f"{len(done)} migration(s) applied to {database}" if done else f"{database} is up to date"
    say(text, applied=[migration.version for migration in done])


@db.command("status")
def db_status() -> None:
    """Show the migrations, and what waits in the outbox."""
    from fourlane.db import migrate
    from fourlane.outbox import browse

    with open_database() as database:
        states = migrate.status(database)
        outbox = browse.summary(database) if not any(state.word == "pending" for state in states) else None
    if wants_json():
        print_json({"migrations": states, "outbox": outbox})
        return
    click.echo(str(database))
    table(
        ["VERSION", "DESCRIPTION", "STATE", "APPLIED", "BY"],
        [
            (
                str(state.version),
                state.description,
                state.word,
                state.applied_at and moment(int(state.applied_at.timestamp() * 1000)),
                state.applied_by,
            )
            for state in states
        ],
        "no migrations",
    )
    if outbox is not None:
        oldest = f", the oldest from {since(outbox.oldest_ms)}" if outbox.oldest_ms is not None else ""
        held = f", {outbox.held:,} not due for long" if outbox.held else ""
        why = f", the last one: {lines(outbox.last_error)}" if outbox.last_error else ""
        click.echo(f"outbox: {outbox.pending:,} pending{oldest}{held}; {outbox.failed:,} failed{why}")


@db.command("rollback")
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, help="How many migrations.")
@yes_option
def db_rollback(steps: int, yes: bool) -> None:
    """Undo the newest migrations, by the SQL recorded when they were applied. Tables go with their rows."""
    from fourlane.db import migrate

    with open_database() as database:
        newest = [f"{s.version} {s.description}" for s in migrate.status(database) if s.word in ("applied", "changed")]
        if not newest:
            say("nothing to roll back", rolled_back=[])
            return
        confirm(f"Roll back {', '.join(reversed(newest[-steps:]))} on {database}?", yes)
        undone = migrate.rollback(database, steps)
    say(
        "\n".join(f"rolled back {state.version} {state.description}" for state in undone),
        rolled_back=[state.version for state in undone],
    )


@db.command("check")
@click.pass_context
def db_check(ctx: click.Context) -> None:
    """Compare the schema with what this version needs. Exit code 1 when something is wrong."""
    from fourlane.db import migrate

    with open_database() as database:
        faults = migrate.check(database)
    if wants_json():
        print_json({"faults": faults})
    else:
        click.echo("\n".join(faults) or f"{database}: the schema is right")
    if faults:
        ctx.exit(1)


@db.command("rotate-keys")
def db_rotate_keys() -> None:
    """Encrypt with the newest of FOURLANE_ENCRYPTION_KEYS what older ones encrypted. May be repeated."""
    from fourlane.db.rotate import rotate_keys

    with open_database() as database:
        rotated = rotate_keys(database)
    say(
        "\n".join(f"{column}: {count:,} value(s) encrypted anew" for column, count in rotated.items() if count)
        or "all is encrypted with the newest key",
        rotated=rotated,
    )
