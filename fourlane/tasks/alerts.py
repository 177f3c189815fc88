"""Tells operators what goes wrong and when it is well again, where there is no Alertmanager.

What is wrong is kept in Redis from one look to the next:

1. Seen for the first time, it is only noted: what is over within a minute wakes nobody.
2. Seen again, it is told, once. It is noted as told after that: a look that was killed between tells again, under the
   same key, and the notification is sent once.
3. Gone, its end is told where its begin was, and it is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fourlane.errors import RedisUnavailable, SettingsError
from fourlane.queues.status import Severity, Trouble, runbook
from fourlane.queues.store import Store

__all__ = ["tell"]

log = logging.getLogger("fourlane.maintenance")


class _Noted(msgspec.Struct, frozen=True):
    rule: str
    severity: Severity
    text: str
    since_ms: int
    told: bool = False


_decode = msgspec.json.Decoder(_Noted).decode


def tell(store: Store, troubles: Sequence[Trouble], now_ms: int, send: Callable[..., Any]) -> None:
    """Compare what is wrong now with what was, and send what is to be told.

    Parameters:
      send: ``fourlane.tasks.notifications.alert``, which enqueues.

    Raises RedisUnavailable.
    """
    key = store.keys.alerts
    reply = store.connector.command(key, "HGETALL", key)
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    before = {incident.decode(): _decode(text) for incident, text in pairs}
    now = {trouble.incident: trouble for trouble in troubles}
    for incident, trouble in now.items():
        noted = before.get(incident)
        if noted is None:
            noted = _Noted(trouble.rule, trouble.severity, trouble.text, now_ms)
        elif noted.told:
            continue
        else:
            noted = msgspec.structs.replace(noted, text=trouble.text, told=True)
            _send(send, incident, noted, over=False)
        store.connector.command(key, "HSET", key, incident, msgspec.json.encode(noted))
    for incident, noted in before.items():
        if incident not in now:
            if noted.told:
                _send(send, incident, noted, over=True)
            store.connector.command(key, "HDEL", key, incident)


def _send(send: Callable[..., Any], incident: str, noted: _Noted, *, over: bool) -> None:
    words = f"Over: {noted.text}" if over else f"{noted.text}\nWhat to do: {runbook(noted.rule)}"
    try:
        send(
            f"{'Resolved' if over else noted.severity.capitalize()}: {noted.rule}",
            severity=noted.severity,
            text=words,
            source="fourlane",
            details={"about": incident, "runbook": runbook(noted.rule)},
            incident=incident,
            resolved=over,
            dedup_key=f"{incident}:{noted.since_ms}:{'over' if over else 'begun'}",
        )
    except RedisUnavailable:
        raise
    except SettingsError as error:  # the others can be told all the same
        log.warning("alert %s could not be sent: %s", incident, error)
