"""``fourlane queues``: what waits, how fast it goes; pause, resume, purge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fourlane.commands.limits import limit_words
from fourlane.commands.shared import Group, Number, confirm, open_store, print_json, say, wants_json, yes_option
from fourlane.commands.text import human_age, table

if TYPE_CHECKING:
    from fourlane.names import Queue
    from fourlane.queues.browse import Rate, ServiceInfo
    from fourlane.queues.store import Store

__all__ = ["queues"]

C = TypeVar("C", bound=Callable[..., Any])


def _list_options(command: C) -> C:
    for option in (
        click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C."),
        click.option(
            "--sample",
            type=Number(0, 3600),
            default=1.0,
            show_default=True,
            help="Seconds over which the rates are measured; 0: none are.",
        ),
    ):
        command = option(command)
    return command


@click.group(cls=Group, invoke_without_command=True)
@_list_options
@click.pass_context
def queues(ctx: click.Context, sample: float, watch: bool) -> None:
    """What waits in the queues. Without a subcommand: list."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(queues_list, sample=sample, watch=watch)


@queues.command("list")
@_list_options
def queues_list(sample: float, watch: bool) -> None:
    """Show every queue: ready, age of the oldest, rates, dead, pause and limit.

    DONE/S are the jobs that succeeded in a second. GROWS/S is how fast READY grows; below 0 it drains.
    """
    with open_store() as store:
        try:
            for services, rates in _looks(store, sample, watch):
                if watch and not wants_json():
                    click.clear()  # does nothing where the output is no terminal
                _show(services, rates)
        except KeyboardInterrupt:
            if not watch:
                raise


def _looks(store: Store, sample: float, watch: bool) -> Iterator[tuple[list[ServiceInfo], dict[str, Rate]]]:
    """What is in the queues, with the rates since the look before."""
    from fourlane.queues import browse

    services = browse.services(store)
    rates: dict[str, Rate] = {}
    while True:
        if sample and services:
            time.sleep(sample)
            before, services = services, browse.services(store)
            rates = browse.rates(before, services)
        yield services, rates
        if not watch:
            return
        if not (sample and services):
            time.sleep(1.0)
            services = browse.services(store)


def _show(services: list[ServiceInfo], rates: dict[str, Rate]) -> None:
    if wants_json():
        print_json({"services": services, "rates": rates})
        return
    table(
        ["QUEUE", "READY", "OLDEST", "DONE/S", "GROWS/S", "DEAD", "STATE", "LIMIT"],
        [
            (
                queue.name,
                queue.ready,
                human_age(queue.oldest_age_ms),
                _figure(rates[queue.name].done_per_second, "") if queue.name in rates else None,
                _figure(rates[queue.name].growth_per_second, "+") if queue.name in rates else None,
                queue.dead,
                "paused" if queue.paused else "",
                limit_words(queue.limit),
            )
            for service in services
            for queue in service.queues
        ],
        "no queues yet: nothing was ever enqueued here",
    )
    if services:
        click.echo()
        table(
            ["SERVICE", "RUNNING", "PARKED", "DELAYED", "NEXT DUE IN", "WORKERS"],
            [(s.name, s.running, s.parked, s.delayed, human_age(s.next_due_in_ms), s.workers) for s in services],
            "",
        )


def _figure(per_second: float | None, sign: str) -> str | None:
    if per_second is None:
        return None
    if abs(per_second) < 0.05:
        return "0"
    return f"{per_second:{sign},.0f}" if abs(per_second) >= 100 else f"{per_second:{sign}.1f}"


def _on_queue(queue: str, act: Callable[[Store, Queue], Any]) -> tuple[str, Any]:
    """Do it to a queue that exists: the queue's full name, and what came of it."""
    from fourlane.queues import browse

    with open_store() as store:
        place = browse.known_queue(store, queue)
        return place.name(store.environment), act(store, place)


@queues.command("pause")
@click.argument("queue")
@click.option("--force", is_flag=True, help="Also when no job or worker of its service was ever seen.")
def queues_pause(queue: str, force: bool) -> None:
    """Let no further job of QUEUE start; what runs goes on."""
    from fourlane.queues import browse, control

    with open_store() as store:
        place = browse.queue_of(store, queue) if force else browse.known_queue(store, queue)
        changed = control.pause(store, place)
        name = place.name(store.environment)
    say(f"{name} is paused" if changed else f"{name} was paused already", queue=name, paused=True, changed=changed)


@queues.command("resume")
@click.argument("queue")
def queues_resume(queue: str) -> None:
    """End the pause of QUEUE."""
    from fourlane.queues import control

    name, changed = _on_queue(queue, control.resume)
    say(f"{name} runs again" if changed else f"{name} was not paused", queue=name, paused=False, changed=changed)


@queues.command("purge")
@click.argument("queue")
@yes_option
def queues_purge(queue: str, yes: bool) -> None:
    """Drop the ready and delayed jobs of QUEUE."""
    from fourlane.queues import control

    def purge(store: Store, place: Queue) -> int:
        confirm(f"Drop all ready and delayed jobs of {place.name(store.environment)}?", yes)
        return control.purge(store, place)

    name, dropped = _on_queue(queue, purge)
    say(f"dropped {dropped:,} job(s) of {name}", queue=name, dropped=dropped)
