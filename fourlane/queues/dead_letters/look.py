"""Find, count and show dead letters."""

from __future__ import annotations

import base64
from itertools import islice

import msgspec

from fourlane.errors import SettingsError
from fourlane.job import JobInfo, State
from fourlane.queues import browse
from fourlane.queues.dead_letters.letters import Filter, Letter, Position, one
from fourlane.queues.dead_letters.walk import queues_of, walk
from fourlane.queues.store import Store

__all__ = ["Page", "count", "find", "info_of", "show"]


class Page(msgspec.Struct, frozen=True):
    """Some dead letters, the latest first, and where the next page begins."""

    letters: list[JobInfo]
    cursor: str
    """Give it to ``find`` for the next page; empty when there is none."""


def find(store: Store, filter: Filter = Filter(), cursor: str = "", limit: int = 50) -> Page:
    """A page of dead letters of all queues, the latest first.

    Raises:
      InvalidName: the filter's queue is none.
      SettingsError: the cursor is not one that ``find`` gave.
    """
    letters = list(islice(walk(store, filter, _read_cursor(cursor)), limit + 1))
    more = len(letters) > limit
    letters = letters[:limit]
    return Page([info_of(store, letter) for letter in letters], _cursor(letters[-1]) if more and letters else "")


def count(store: Store, filter: Filter = Filter()) -> int:
    """How many fit. Without task, tenant and reason Redis knows; with them all dead letters of the time are read."""
    if filter.task is not None or filter.tenant is not None or filter.reason is not None:
        return sum(1 for _ in walk(store, filter))
    low, high = filter.times(browse.now_ms(store))
    return sum(
        store.connector.command(key, "ZCOUNT", key, low, high)
        for service, tier in queues_of(store, filter)
        for key in [store.service(service).dead[tier]]
    )


def show(store: Store, job_id: str, queue: str | None = None) -> JobInfo:
    """One dead letter, with its arguments and errors. Raises JobNotFound when it is none."""
    return info_of(store, one(store, job_id, queue))


def info_of(store: Store, letter: Letter) -> JobInfo:
    return browse.job_info(
        store,
        letter.at.service,
        letter.at.id,
        State.DEAD,
        body=letter.body,
        record=letter.record,
        reason=letter.reason,
        crashes=letter.crashes,
        died_at_ms=letter.at.died_ms,
    )


def _cursor(letter: Letter) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(letter.at)).decode().rstrip("=")


def _read_cursor(text: str) -> Position | None:
    if not text:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Position)
    except (ValueError, msgspec.DecodeError):
        raise SettingsError(f"{text!r} is no cursor; take the one that the page before gave") from None
