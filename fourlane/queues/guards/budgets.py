"""What paid calls cost, and what is set aside for those under way, in Redis, in billionths of a dollar.

Accounts are kept by day and by month (UTC), one for all calls and one for each tenant. A budget bounds a field of one:
what was spent, or what of it went to a task or a model. They lie in one cluster slot, so that all budgets of a call are
asked in one script: a shard then hears of every paid call, twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from fourlane.queues.over import over
from fourlane.queues.redis.replies import fields, pairs
from fourlane.queues.store import Store

__all__ = ["ALL", "Account", "Asked", "Bound", "Budgets", "PaidCall", "Reservation", "SetAside", "period_of"]

ALL: Final = ""
"""In the place of a tenant: the account of all calls."""
_REMEMBERED_MS: Final = 30 * 86_400_000
_CHUNK: Final = 500
_EARLIER_SECONDS: Final = 60.0
_DEPLOY_SECONDS: Final = 3_600.0
_MOST_EARLIER: Final = 10_000


class PaidCall(NamedTuple):
    """A call as the books know it.

    Parameters:
      id: the same in every attempt of its job.
      day: of its begin, as ``2026-11-28``; a call may end on the next one.
      service, job: of the job that makes it; empty: none that this Redis knows.
      until_ms: by when a call that no job makes has ended, whatever became of it.
    """

    id: str
    tenant: str
    day: str
    task: str
    model: str
    service: str = ""
    job: str = ""
    until_ms: int = 0

    @property
    def counted(self) -> tuple[str, ...]:
        """The names under which its cost counts beside the sum."""
        return (f"tenant:{self.tenant}", f"task:{self.task}", f"model:{self.model}")


class Bound(NamedTuple):
    """A budget as the script reads it.

    Parameters:
      account: its place among ``accounts_of`` a call.
      name: what it bounds there: empty for all that is spent, else one of the names of ``PaidCall.counted``.
      most, warn: from where calls are refused and operators are warned.
    """

    account: int
    name: str
    most: int
    warn: int


class Asked(NamedTuple):
    """The answer to a reservation.

    Parameters:
      over: the place of the budget that the call would pass; None: it is reserved.
      used: what is spent and reserved of that.
      warned: the places of budgets that are now near their end, each told once, and what is used of them.
    """

    over: int | None
    used: int
    warned: tuple[tuple[int, int], ...]


class Account(msgspec.Struct, frozen=True):
    """What is kept of a day or month.

    Parameters:
      of: the cost by names: ``tenant:…``, ``task:…``, ``model:…``.
      held: what is reserved of a bound, by its name; refusing: until when it counts as refusing calls.
      unpriced: calls whose price nobody knows.
    """

    spent: int = 0
    calls: int = 0
    unpriced: int = 0
    of: dict[str, int] = {}
    held: dict[str, int] = {}
    refusing: dict[str, int] = {}

    def used(self, name: str) -> int:
        """Spent and reserved of a bound."""
        return (self.of.get(name, 0) if name else self.spent) + self.held.get(name, 0)


class Reservation(msgspec.Struct, frozen=True):
    """What is set aside for a call. ``given_back_ms``: when that ended, though the call did not; 0: it is held."""

    tenant: str
    day: str
    nano: str = "0"
    service: str = ""
    job: str = ""
    until_ms: int = 0
    at: str = "0"
    given_back_ms: int = 0
    held: list[tuple[str, str]] = []


class SetAside(NamedTuple):
    """A reservation of a call, and how it is kept: what has changed since it was seen is not given back."""

    call: str
    text: bytes
    reservation: Reservation


class Budgets:
    """The accounts of one environment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys
        self._earlier: dict[tuple[str, str], float] = {}
        self._deployed_by = time.monotonic() + _DEPLOY_SECONDS

    def reserve(self, call: PaidCall, nano: int, bounds: Sequence[Bound], *, refusing_ms: int = 0) -> Asked:
        """Set aside what a call may cost, in all its budgets or in none; again under its id: in place of the former.

        Parameters:
          refusing_ms: for how long a refusal is shown to those who look; 0: the caller will ask once more.
        """
        self._count_earlier(call.tenant, call.day[:7])
        about = {"tenant": call.tenant, "day": call.day}
        about |= {"service": call.service, "job": call.job} if call.job else {"until_ms": str(call.until_ms)}
        words: list[Any] = [call.id, nano, msgspec.json.encode(about), refusing_ms]
        for bound in bounds:
            words += [bound.account + 1, _field(bound.name), bound.most, bound.warn]
        keys = (self._keys.reservations, *self._accounts(call.tenant, call.day))
        word, *told = self._store.connector.run_once("budget_reserve", keys, words, self._keys.budgets_sent, marks=True)
        numbers = [int(one) for one in told]
        if word == b"over":
            return Asked(numbers[0] - 1, numbers[1], ())
        near = tuple((place - 1, used) for place, used in zip(numbers[::2], numbers[1::2], strict=True))
        return Asked(None, 0, near)

    def settle(
        self, call: PaidCall, nano: int, *, made: bool = True, unpriced: bool = False, row: str = "", kept: bytes = b""
    ) -> bool:
        """Book what a reserved call cost, once, however often it is called; False: it was booked before.

        Parameters:
          made: False: nobody was called after all.
          kept: what is to be kept of its row until ``written(row)``.
        """
        keys = (self._keys.reservations, *self._accounts(call.tenant, call.day), self._keys.unwritten)
        words = (call.id, nano, int(unpriced), row, kept, int(made), *call.counted)
        return bool(self._store.connector.run_once("budget_settle", keys, words, self._keys.budgets_sent, marks=True))

    def look(self, tenant: str, period: str) -> Account:
        """What is kept of a day or month; of all calls for ``ALL``."""
        key = self._keys.spent(tenant, period)
        return _account(fields(self._store.connector.command(key, "HGETALL", key)))

    def reservations(self) -> Iterator[SetAside]:
        """Those of all calls, in no order."""
        key = self._keys.reservations
        cursor = b"0"
        while True:
            cursor, some = self._store.connector.command(key, "HSCAN", key, cursor, "COUNT", _CHUNK)
            for call, text in pairs(some):
                yield SetAside(call.decode(), text, msgspec.json.decode(text, type=Reservation, strict=False))
            if int(cursor) == 0:
                return

    def sweep(self, now_ms: int) -> int:
        """Give back what calls hold that no one will settle: their job is over, or their time. Returns how many."""
        by_service: dict[str, list[SetAside]] = {}
        lost: list[SetAside] = []
        for held in self.reservations():
            one = held.reservation
            if one.given_back_ms:
                if one.given_back_ms < now_ms - _REMEMBERED_MS:
                    self._give_back(held, b"")
            elif one.job:
                by_service.setdefault(one.service, []).append(held)
            elif one.until_ms < now_ms:
                lost.append(held)
        for service, some in by_service.items():
            lost += self._of_jobs_that_are_over(service, some)
        swept = 0
        for held in lost:
            rest = {"tenant": held.reservation.tenant, "day": held.reservation.day, "given_back_ms": now_ms}
            swept += self._give_back(held, msgspec.json.encode(rest))
        return swept

    def _of_jobs_that_are_over(self, service: str, some: list[SetAside]) -> list[SetAside]:
        gone = over(self._store, service, [held.reservation.job for held in some])
        return [held for held in some if held.reservation.job in gone]

    def _give_back(self, held: SetAside, remembered: bytes) -> int:
        keys = (self._keys.reservations, *self._accounts(held.reservation.tenant, held.reservation.day))
        return int(self._store.connector.run("budget_give_back", keys, (held.call, held.text, remembered)))

    def keep_unwritten(self, row: str, text: bytes) -> None:
        """Keep a row that could not be written, until ``written``."""
        self._store.connector.command(self._keys.unwritten, "HSET", self._keys.unwritten, row, text)

    def unwritten(self) -> dict[str, bytes]:
        """The rows that are not written yet, by their ids."""
        return fields(self._store.connector.command(self._keys.unwritten, "HGETALL", self._keys.unwritten))

    def written(self, row: str) -> None:
        self._store.connector.command(self._keys.unwritten, "HDEL", self._keys.unwritten, row)

    def _count_earlier(self, tenant: str, month: str) -> None:
        """Have a tenant's month know what workers of an earlier release count: once a minute while there are any, and
        in the hour in which there may be."""
        now = time.monotonic()
        if self._earlier.get((tenant, month), 0.0) > now:
            return
        key, account = self._keys.spent_before(tenant, month), self._keys.spent(tenant, month)
        spent, reserved = self._store.connector.command(key, "HMGET", key, "spent", "reserved")
        if spent is not None or reserved is not None:
            nano = (int(spent or 0) + int(reserved or 0)) * 1_000
            self._store.connector.command(account, "HSET", account, "before", nano)
        if len(self._earlier) >= _MOST_EARLIER:
            self._earlier.clear()
        over = spent is None and now > self._deployed_by
        self._earlier[tenant, month] = math.inf if over else now + _EARLIER_SECONDS

    def _accounts(self, tenant: str, day: str) -> tuple[bytes, ...]:
        """The tenant's month and day, then those of all."""
        return tuple(self._keys.spent(whose, period) for whose in (tenant, ALL) for period in (day[:7], day))


def period_of(day: str, per: str) -> str:
    """The day itself, or its month."""
    return day[:7] if per == "month" else day


def _field(name: str) -> str:
    return f"of:{name}" if name else "spent"


def _account(told: dict[str, bytes]) -> Account:
    def under(prefix: str) -> dict[str, int]:
        found = {name.removeprefix(prefix): int(value) for name, value in told.items() if name.startswith(prefix)}
        return {name.removeprefix("of:") if name != "spent" else "": value for name, value in found.items()}

    number = {name: int(told.get(name, 0)) for name in ("spent", "calls", "unpriced", "before")}
    return Account(
        number["spent"] + number["before"], number["calls"], number["unpriced"],
        under("of:"), under("held:"), under("refusing:"),
    )  # fmt: skip
