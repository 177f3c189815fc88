"""``fourlane events``: event queues on SQS, their dead letters, publishing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from fourlane.commands.shared import (
    Duration,
    Group,
    Json,
    Number,
    confirm,
    fail,
    import_here,
    open_app,
    print_json,
    say,
    wants_json,
    yes_option,
)
from fourlane.commands.text import since, table

if TYPE_CHECKING:
    from fourlane.config import Settings
    from fourlane.events.aws import Aws
    from fourlane.events.names import EventQueue
    from fourlane.events.operate import Filter, Letter
    from fourlane.events.provision import Change

__all__ = ["events"]

_BODY: Final = 60


@click.group(cls=Group)
def events() -> None:
    """Event streams on AWS SQS."""


class _Open:
    """What the commands work on. Modules declare events, so they are imported first."""

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        from fourlane.app import App
        from fourlane.config import load_settings

        import_here(modules)
        app = App(load_settings())
        self.settings: Settings = app.settings
        self.aws: Aws = app.aws

    def queue(self, name: str, fifo: bool = False) -> EventQueue:
        from fourlane.events import catalogue
        from fourlane.events.names import EventQueue, parse_event

        event = parse_event(name, self.settings.environment, fifo=fifo)
        declared = catalogue.queue_of(event, self.settings.environment)
        return EventQueue(self.settings.environment, event, fifo or declared.fifo)


def _module_option(command: Any) -> Any:
    return click.option(
        "--module", "modules", multiple=True, help="A module that declares the events; may be repeated."
    )(command)


def _fifo_option(command: Any) -> Any:
    return click.option("--fifo", is_flag=True, help="Its queue is first in, first out.")(command)


@events.command("list")
@click.option("--category", help="Only of this category: platform, audit, analytics, notification.")
@_module_option
def events_list(category: str | None, modules: tuple[str, ...]) -> None:
    """List the event queues, and how many events they hold, roughly."""
    from fourlane.errors import InvalidName
    from fourlane.events import operate
    from fourlane.events.names import CATEGORIES

    if category is not None and category not in CATEGORIES:
        raise InvalidName(f"{category!r} is no category; use {', '.join(CATEGORIES)}")
    opened = _Open(modules)
    rows = [
        operate.counts(opened.aws, queue)
        for queue in operate.queues(opened.aws, opened.settings.environment, category or "")
    ]
    _print_counts(rows)


@events.command("stats")
@click.argument("event")
@_fifo_option
@_module_option
def events_stats(event: str, fifo: bool, modules: tuple[str, ...]) -> None:
    """Count the events of one queue, roughly, as SQS does."""
    from fourlane.events import operate

    opened = _Open(modules)
    _print_counts([operate.counts(opened.aws, opened.queue(event, fifo))])


def _print_counts(rows: list[Any]) -> None:
    if wants_json():
        print_json(
            {
                "queues": [
                    {
                        "event": row.queue.event.full(row.queue.environment),
                        "stream": row.queue.event.stream,
                        "fifo": row.queue.fifo,
                        "sqs": row.queue.sqs_name,
                        "waiting": row.waiting,
                        "running": row.running,
                        "delayed": row.delayed,
                        "dead": row.dead,
                    }
                    for row in rows
                ]
            }
        )
        return
    table(
        ["EVENT", "STREAM", "WAITING", "RUNNING", "DELAYED", "DEAD", "SQS QUEUE"],
        [
            (r.queue.event, r.queue.event.stream, r.waiting, r.running, r.delayed, r.dead, r.queue.sqs_name)
            for r in rows
        ],
        "no event queues yet; `fourlane events provision` makes them",
    )


@events.command("publish")
@click.argument("event")
@click.argument("data", type=Json())
@click.option("--tenant", default="", help="On whose behalf.")
@click.option("--key", default="", help="Events of one key keep their order on a FIFO queue.")
@click.option("--id", "event_id", default="", help="The event's id; else a random one.")
@click.option("--delay", type=Duration(), help="Not to be handled before: 10s, 5m, 2h.")
@_module_option
def events_publish(
    event: str, data: Any, tenant: str, key: str, event_id: str, delay: int | None, modules: tuple[str, ...]
) -> None:
    """Publish one EVENT, e.g. platform.user-signup, with DATA, a JSON value."""
    import_here(modules)
    with open_app() as app:
        published = app.publisher.publish(
            event, data, tenant=tenant, key=key, id=event_id, delay=delay / 1000 if delay else None
        )
    say(
        published.id + (" (kept in the local buffer: SQS cannot be reached)" if published.buffered else ""),
        id=published.id,
        buffered=published.buffered,
    )


@events.command("peek")
@click.argument("event")
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="So many at most.")
@_fifo_option
@_module_option
def events_peek(event: str, limit: int, fifo: bool, modules: tuple[str, ...]) -> None:
    """Look at events that wait. To SQS each look is a receive, which its redrive policy counts."""
    from fourlane.events import operate

    opened = _Open(modules)
    _print_letters(operate.peek(opened.aws, opened.queue(event, fifo), limit), dead=False)


def _filter_options(command: Any) -> Any:
    for option in (
        click.option("--newer-than", type=Duration(), help="Sent less long ago: 10m, 2h, 7d."),
        click.option("--older-than", type=Duration(), help="Sent longer ago: 10m, 2h, 7d."),
        click.option("--reason", default="", help="Only those whose reason contains this."),
        click.option("--tenant", default="", help="Only this tenant's."),
    ):
        command = option(command)
    return command


def _filter(ids: tuple[str, ...], options: dict[str, Any]) -> Filter:
    from fourlane.events.operate import Filter

    return Filter(frozenset(ids), options["tenant"], options["reason"], options["older_than"], options["newer_than"])


@events.command("dead")
@click.argument("event")
@_filter_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Look at so many.")
@_fifo_option
@_module_option
def events_dead(event: str, limit: int, fifo: bool, modules: tuple[str, ...], **filters: Any) -> None:
    """List the dead letters of an EVENT's queue, with their reasons."""
    from fourlane.events import operate

    opened = _Open(modules)
    queue = opened.queue(event, fifo).dead_letters
    _print_letters(operate.find(opened.aws, queue, _filter((), filters), limit), dead=True)


def _print_letters(letters: list[Letter], *, dead: bool) -> None:
    if wants_json():
        print_json({"events": letters})
        return
    head = ["ID", "SENT", "RECEIVES", "TENANT", *(["REASON"] if dead else []), "BODY"]
    rows = [
        (
            letter.id or letter.message_id,
            since(letter.sent_ms),
            letter.receives,
            letter.tenant,
            *([letter.reason or "too many receives"] if dead else []),
            letter.body[:_BODY],
        )
        for letter in letters
    ]
    table(head, rows, "no dead letters" if dead else "no events wait")


@events.command("redrive")
@click.argument("event")
@_filter_options
@click.option("--rate", type=Number(0.000_001, 1_000_000), help="Events a second; else as fast as it goes.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--native", is_flag=True, help="Let SQS move all of them itself; takes no filter.")
@_fifo_option
@_module_option
@yes_option
def events_redrive(
    event: str, rate: float | None, dry_run: bool, native: bool, fifo: bool, modules: tuple[str, ...], yes: bool,
    **filters: Any,
) -> None:  # fmt: skip
    """Send dead letters of an EVENT back to its queue. Handlers that had an event do not get it again."""
    from fourlane.events import operate

    which = _filter((), filters)
    if native and (dry_run or which != operate.Filter()):
        raise click.UsageError("--native moves all dead letters: it takes no filter and no --dry-run")
    opened = _Open(modules)
    queue = opened.queue(event, fifo)
    if native:
        confirm(f"Let SQS move all dead letters of {queue.event} back?", yes)
        handle = operate.start_move(opened.aws, queue, round(rate) if rate else None)
        say(f"SQS moves them; its task is {handle}", task=handle)
        return
    number = len(operate.find(opened.aws, queue.dead_letters, which)) if dry_run or not yes else None
    if dry_run:
        say(f"{number:,} dead letter(s) would go back to {queue.event}", would_redrive=number)
        return
    if number != 0:
        confirm(f"Send {number if number is not None else 'all'} dead letter(s) back to {queue.event}?", yes)
    moved = operate.move(opened.aws, queue, which, rate_per_second=rate)
    say(f"sent {moved:,} dead letter(s) back to {queue.event}", redriven=moved)


@events.command("replay")
@click.argument("event")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_fifo_option
@_module_option
def events_replay(event: str, ids: tuple[str, ...], fifo: bool, modules: tuple[str, ...]) -> None:
    """Send these dead letters of an EVENT back, and let every handler have them again, those that had them too."""
    from fourlane.events import operate

    opened = _Open(modules)
    queue = opened.queue(event, fifo)
    found: list[str] = []
    moved = operate.move(
        opened.aws,
        queue,
        operate.Filter(frozenset(ids)),
        again=True,
        on_moved=lambda letter: found.extend((letter.id, letter.message_id)),
    )
    absent = [i for i in ids if i not in found]
    if absent:
        fail(f"replayed {moved:,}; there is no dead letter of {queue.event} with the id {', '.join(absent)}")
    say(f"replayed {moved:,} event(s) of {queue.event}", replayed=moved)


@events.command("provision")
@click.argument("names", nargs=-1, metavar="[EVENT]...")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--kms-key", default="", help="Encrypt with this KMS key; else with one that SQS manages.")
@_fifo_option
@_module_option
def events_provision(names: tuple[str, ...], dry_run: bool, kms_key: str, fifo: bool, modules: tuple[str, ...]) -> None:
    """Make the queues of EVENTs, or of all that the modules declare, and print the IAM policy for them.

    Each gets a dead-letter queue, redrive policy, retention, encryption and tags. What is right already stays.
    """
    from fourlane.events import catalogue, provision

    opened = _Open(modules)
    queues = [opened.queue(name, fifo) for name in names] or [
        catalogue.queue_of(kind.name, opened.settings.environment) for kind in catalogue.declared()
    ]
    if not queues:
        raise click.UsageError("name events, or a module that declares them with --module")
    changes = []
    for change in provision.provision(
        opened.aws, queues, dry_run=dry_run, kms_key=kms_key, service=opened.settings.service
    ):
        changes.append(change)
        if not wants_json():
            _print_change(change, dry_run)
    environment, bucket = opened.settings.environment, opened.settings.events_bucket
    policy = provision.policy(opened.aws, queues, environment=environment, bucket=bucket, kms_key=kms_key)
    if wants_json():
        rows = [{"sqs": c.queue.sqs_name, "action": c.action, "attributes": c.attributes} for c in changes]
        print_json({"queues": rows, "dry_run": dry_run, "policy": policy})
    else:
        _print_policy(policy, environment, bucket)


def _print_change(change: Change, dry_run: bool) -> None:
    words = ", ".join(f"{name}={value}" for name, value in change.attributes.items())
    would = "would " if dry_run and change.action != "keep" else ""
    click.echo(f"{would}{change.action}  {change.queue.sqs_name}" + (f"  {words}" if words else ""))


def _print_policy(policy: dict[str, Any], environment: str, bucket: str) -> None:
    click.echo("\nIAM policy; give each program the statements that it needs:")
    click.echo(json.dumps(policy, indent=2))
    if bucket:
        click.echo(
            f"\nGive the bucket {bucket} a lifecycle rule that drops {environment}/events/ after 30 days: the queues "
            "keep events for 14 at most."
        )
