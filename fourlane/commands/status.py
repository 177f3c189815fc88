"""``fourlane status``: whether all goes well now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fourlane.commands.shared import open_app, print_json, wants_json
from fourlane.commands.text import human_age, lines, table

if TYPE_CHECKING:
    from fourlane.queues.status import Seen, Trouble

__all__ = ["status"]


@click.command()
@click.pass_context
def status(ctx: click.Context) -> None:
    """Tell whether all goes well now. Exit code 1 when something is wrong.

    What is wrong comes first, each line with the page that tells what to do. `fourlane doctor` looks at the server and
    its keys.
    """
    from fourlane.queues.status import judge, look
    from fourlane.tasks.upkeep.beyond import Outside

    with open_app() as app:
        seen = look(app.store, Outside(app.root).look(app.store))
    troubles = judge(seen)
    if wants_json():
        print_json(_fields(seen, troubles))
    else:
        _show(seen, troubles)
    if troubles:
        ctx.exit(1)


def _fields(seen: Seen, troubles: list[Trouble]) -> dict[str, Any]:
    import msgspec

    from fourlane.queues.status import runbook

    memory = None if seen.memory is None else {"used_bytes": seen.memory[0], "limit_bytes": seen.memory[1]}
    return {
        "well": not troubles,
        "troubles": [
            {"rule": t.rule, "severity": t.severity, "about": t.about, "text": t.text, "runbook": runbook(t.rule)}
            for t in troubles
        ],
        **msgspec.to_builtins(seen),
        "providers": [state._asdict() for state in seen.providers],
        "memory": memory,
    }


def _show(seen: Seen, troubles: list[Trouble]) -> None:
    from fourlane.queues.status import runbook, target_of

    for trouble in troubles:
        word = click.style(f"{trouble.severity:<8}", fg="red" if trouble.severity == "critical" else "yellow")
        click.echo(f"{word}  {lines(trouble.text)}\n{'':<8}  → {runbook(trouble.rule)}")
    if not troubles:
        click.echo(click.style("all is well", fg="green"))
    click.echo()
    table(
        ["QUEUE", "READY", "OLDEST", "TARGET", "DEAD", "NEWLY DEAD", "PAUSED"],
        [
            (
                queue.name, queue.ready, human_age(queue.oldest_age_ms), human_age(queue.tier.target_ms), queue.dead,
                seen.died.get(queue.name, 0), "yes" if queue.paused else "",
            )
            for service in seen.services
            for queue in service.queues
        ],
        "there are no queues yet",
    )  # fmt: skip
    click.echo()
    table(
        ["SERVICE", "DELAYED", "PARKED", "RUNNING", "WORKERS"],
        [
            (service.name, service.delayed, service.parked, service.running, service.workers)
            for service in seen.services
        ],
        "no service was ever seen",
    )
    click.echo()
    late = [one for one in seen.schedules if one.late_ms > one.allowed_ms]
    click.echo(f"workers    {len(seen.workers):,}, {sum(worker.lost for worker in seen.workers):,} of them lost")
    click.echo(f"schedules  {len(seen.schedules):,}, {len(late):,} of them late")
    for lag in seen.beyond.lags:
        click.echo(
            f"{lag.kind:<9}  {lag.name}: {lag.waiting:,} wait, the oldest for {human_age(lag.oldest_ms)}"
            + (f"; {lag.newly_failed:,} failed in 30 minutes" if lag.newly_failed else "")
        )
    down = sorted({target_of(state) for state in seen.providers if state.state != "closed"})
    targets = {target_of(state) for state in seen.providers}
    click.echo(
        f"providers  {len(targets):,} called within a day, {len(down):,} down{': ' * bool(down)}{', '.join(down)}"
    )
    if seen.memory is not None:
        used, most = seen.memory
        of = f" of {most / 1_000_000:,.1f}" if most else ""
        click.echo(f"memory     {used / 1_000_000:,.1f}{of} MB of Redis")
