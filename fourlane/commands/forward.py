"""``fourlane forward``: takes over what dramatiq's own RedisBroker left."""

from __future__ import annotations

import sys

import click

from fourlane.commands.shared import import_here, print_json, wants_json

__all__ = ["forward"]


@click.command()
@click.argument("modules", nargs=-1)
@click.option("--from", "url", help="The Redis of dramatiq's broker; by default the one that jobs are in.")
@click.option("--namespace", default="dramatiq", show_default=True, help="The namespace of dramatiq's broker.")
def forward(modules: tuple[str, ...], url: str | None, namespace: str) -> None:
    """Make jobs of the messages that dramatiq's own RedisBroker left. MODULES are the program's, as of its worker.

    Stop dramatiq's workers and all that sends through it first.
    """
    from fourlane.queues.forward import forward as move
    from fourlane.queues.forward import queues_left
    from fourlane.queues.redis import connect, naming
    from fourlane.tasks.task import default_broker

    import_here(modules)
    broker = default_broker()
    moved: dict[str, int] = {}
    left = 0
    with naming("--from" if url is not None else "REDIS_URL"):
        client = connect(url) if url is not None else broker.client
        for queue in queues_left(client, namespace):
            moved[queue], stay = move(broker, client, namespace, queue)
            left += len(stay)
            for key, message_id, why in stay:
                click.echo(f"left in {key}: {message_id}: {' '.join(why.split())}", err=True)
    _report(moved, namespace)
    if left:
        click.echo(
            f"error: {left} message(s) cannot be jobs here and stay under {namespace}:*.msgs, see above", err=True
        )
        sys.exit(1)


def _report(moved: dict[str, int], namespace: str) -> None:
    if wants_json():
        print_json(moved)
        return
    for queue, count in moved.items():
        click.echo(f"{queue}: {count} job(s)")
    if not moved:
        click.echo(f"nothing is left of dramatiq's under {namespace}:")
