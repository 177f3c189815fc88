"""``fourlane limits``: rates and concurrency of the queues."""

from __future__ import annotations

from typing import Any

import click

from fourlane.commands.shared import Duration, Group, open_store, print_json, say, wants_json
from fourlane.commands.text import human_age, table

__all__ = ["limit_words", "limits"]


def limit_words(limit: Any) -> str:
    """``10 per 1s, burst 20, 4 at once``; empty for None."""
    words: list[str] = []
    if limit is not None and limit.rate is not None:
        words.append(f"{limit.rate:,} per {human_age(limit.per_ms)}")
        if limit.burst is not None:
            words.append(f"burst {limit.burst:,}")
    if limit is not None and limit.concurrency is not None:
        words.append(f"{limit.concurrency:,} at once")
    return ", ".join(words)


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def limits(ctx: click.Context) -> None:
    """Rates and concurrency of the queues. Without a subcommand: show."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(limits_show)


@limits.command("show")
@click.argument("queue", required=False)
def limits_show(queue: str | None) -> None:
    """Show what is paused or limited."""
    from fourlane.queues import browse, control

    with open_store() as store:
        found = control.limits(store)
        if queue is not None:
            name = browse.known_queue(store, queue).name(store.environment)
            found = {name: found[name]} if name in found else {}
    if wants_json():
        print_json({"limits": found})
        return
    table(
        ["QUEUE", "STATE", "LIMIT", "SOURCE"],
        [(name, "paused" if limit.paused else "", limit_words(limit), limit.source) for name, limit in found.items()],
        "nothing is paused or limited",
    )


@limits.command("set")
@click.argument("queue")
@click.option("--rate", type=click.IntRange(1), help="Jobs that may start in --per.")
@click.option("--per", type=Duration(), help="1s by default.")
@click.option("--burst", type=click.IntRange(1), help="Jobs that may start together; as many as --rate by default.")
@click.option("--concurrency", type=click.IntRange(1), help="Jobs that may run at once, over all workers.")
@click.option("--force", is_flag=True, help="Also when no job or worker of its service was ever seen.")
def limits_set(
    queue: str, rate: int | None, per: int | None, burst: int | None, concurrency: int | None, force: bool
) -> None:
    """Limit QUEUE. What is not given stays as it is.

    It counts from now on for all workers, and stands above FOURLANE_LIMITS until it is cleared.
    """
    from fourlane.queues import browse, control

    if rate is per is burst is concurrency is None:
        raise click.UsageError("give --rate or --concurrency")
    with open_store() as store:
        place = browse.queue_of(store, queue) if force else browse.known_queue(store, queue)
        limit = control.set_limit(store, place, rate=rate, per_ms=per, burst=burst, concurrency=concurrency)
        name = place.name(store.environment)
    say(f"{name}: {limit_words(limit)}", queue=name, limit=limit)


@limits.command("clear")
@click.argument("queue")
def limits_clear(queue: str) -> None:
    """Remove the limits of QUEUE; a pause stays.

    Those of FOURLANE_LIMITS come back when a worker starts.
    """
    from fourlane.queues import browse, control

    with open_store() as store:
        place = browse.known_queue(store, queue)
        changed = control.clear(store, place)
        name = place.name(store.environment)
    say(f"{name} has no limit" + ("" if changed else ", and had none"), queue=name, changed=changed)
