"""What a turn asks of a service besides settling what finished. Pure: no store, no clock."""

from __future__ import annotations

from fourlane.queues.turn import Ask, First
from fourlane.worker.loop.service import Service

__all__ = ["what_to_ask"]


def what_to_ask(
    service: Service,
    now: float,
    *,
    want: int = 0,
    settles: int = 0,
    first: First | None = None,
    down_to: str = "9",
    ages: bool = False,
    idle_silence_ms: int,
) -> Ask:
    """A lone job's settling asks nothing: whatever came meanwhile has left a token.

    Parameters:
      want: how many jobs there is room for.
      settles: how many of the service's leases the turn settles.
      first: a tier that gets its share before the others.
      down_to: the lowest tier to lease from.
      ages: how long its tiers have waited is to be asked.
    """
    held = max(0, service.held - settles)
    if service.settles_at_most:  # Redis refused: it is to say what it refuses, and nothing else with it
        return Ask(held=held, control=service.controlled, lines=service.lines, idle_silence_ms=idle_silence_ms)
    agenda, tiers = service.agenda, service.tiers
    look = agenda.looks(now)
    busy = service.held > settles
    leases = want > 0 and (look or bool(tiers.maybe))
    return Ask(
        want=max(0, want),
        tiers=tiers.to_lease_from(down_to=down_to, whatever=look or busy) if want > 0 else "",
        first=first,
        held=held,
        look=look,
        beat=agenda.beats(now, leases=leases, busy=busy, looks=look),
        news=busy,
        ages=ages,
        watch=(want > 0 or busy) and agenda.wants_watch(now),
        control=service.controlled,
        lines=service.lines,
        idle_silence_ms=idle_silence_ms,
    )
