"""What was spent: by the accounts in Redis, beside the budgets, and beside the rows of the database."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from fourlane.queues.guards import ALL, Account, Budgets, period_of
from fourlane.queues.store import Store
from fourlane.tasks.ai.config import AiConfig, configured
from fourlane.tasks.ai.money.budget_rules import EACH, NANO, Budget, applying
from fourlane.tasks.ai.money.budgets import bounded, budgets
from fourlane.tasks.ai.whose import account_name, tenant_of

if TYPE_CHECKING:
    from fourlane.db.engine import Database

__all__ = [
    "Compared",
    "Use",
    "by_name",
    "compared",
    "day_now",
    "dollars",
    "is_period",
    "month_now",
    "reserved_of",
    "spending",
    "uses",
]

_PERIOD: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")


@dataclass(frozen=True, slots=True)
class Use:
    """A budget, and what is used of it in its day or month.

    Parameters:
      refusing: calls were refused for it a short while ago.
    """

    budget: Budget
    used: int
    refusing: bool
    warn_at: float

    @property
    def share(self) -> float:
        return self.used / self.budget.nano if self.budget.nano else 1.0


def spending(tenant: str, month: str | None = None) -> dict[str, float]:
    """Dollars that a tenant spent in a month (``2026-11``; this one by default) or a day (``2026-11-28``): ``spent``,
    ``reserved``, and by ``model:…`` and ``task:…``; ``budget`` where it has one of its own for such a time.

    Parameters:
      tenant: ``-``: calls without one; ``%2D``: a tenant that is named ``-``.
    """
    books, period = budgets.here(), month or month_now()
    books.sweep()
    return dollars(books.budgets, tenant, period, reserved_of(books.budgets, period))


def dollars(of: Budgets, tenant: str, period: str, reserved: Mapping[str, int]) -> dict[str, float]:
    """What is kept of a tenant's month or day, in dollars, with its budget.

    Parameters:
      reserved: by tenant (``reserved_of``).
    """
    account = of.look(tenant, period)
    found = {name: nano / NANO for name, nano in account.of.items() if not name.startswith("tenant:")}
    found |= {"spent": account.spent / NANO, "reserved": reserved.get(tenant, 0) / NANO}
    for budget in _own_budgets(configured(), tenant_of(tenant), period):
        found["budget"] = budget.nano / NANO
    return found


def _own_budgets(config: AiConfig, tenant: str, period: str) -> list[Budget]:
    """Of a tenant in all, for a period like this."""
    per = "month" if len(period) == len("2026-11") else "day"
    plain = [one for one in config.all_budgets() if one.per == per and one.task is None and one.model is None]
    named = [one for one in plain if one.tenant == tenant] or [one for one in plain if one.tenant == EACH]
    return named[-1:]


def reserved_of(of: Budgets, period: str) -> dict[str, int]:
    """What is set aside for calls under way that began in a period, by tenant."""
    found: dict[str, int] = {}
    for _, _, one in of.reservations():
        if one.day.startswith(period):
            found[one.tenant] = found.get(one.tenant, 0) + int(one.nano)
    return found


def by_name(account: Account, kind: str) -> list[tuple[str, int]]:
    """What of an account went to each tenant, task or model, the most first."""
    prefix = f"{kind}:"
    found = [(name.removeprefix(prefix), nano) for name, nano in account.of.items() if name.startswith(prefix)]
    return sorted(found, key=lambda one: (-one[1], one[0]))


def uses(store: Store, config: AiConfig, most: int = 1_000) -> list[Use]:
    """How each budget stands, the fullest first; of those for each tenant by itself the ``most`` that spent most."""
    of, day, now_ms = Budgets(store), day_now(), int(time.time() * 1000)
    looked: dict[tuple[str, str], Account] = {}

    def look(tenant: str, period: str) -> Account:
        if (tenant, period) not in looked:
            looked[tenant, period] = of.look(tenant, period)
        return looked[tenant, period]

    found: dict[str, Use] = {}
    for budget in config.all_budgets():
        period = period_of(day, budget.per)
        for one in _each(budget, config.all_budgets(), look(ALL, period), most):
            account, name = look(ALL if one.tenant is None else account_name(one.tenant), period), bounded(one)
            warn_at = config.warn_at if one.warn_at is None else one.warn_at
            found[str(one)] = Use(one, account.used(name), account.refusing.get(name, 0) > now_ms, warn_at)
    return sorted(found.values(), key=lambda use: (not use.refusing, -use.share, str(use.budget)))


def _each(budget: Budget, budgets: list[Budget], account: Account, most: int) -> Iterator[Budget]:
    """A budget, or where it is for each tenant, task or model by itself one for each that is seen in an account."""
    whose = {"tenant": budget.tenant or "", "task": budget.task or "", "model": budget.model or ""}
    star = next((kind for kind, name in whose.items() if name == EACH), None)
    if star is None:
        yield budget
        return
    for name, _ in by_name(account, star)[:most]:
        whose[star] = tenant_of(name) if star == "tenant" else name
        if budget.named(**whose) in applying(budgets, **whose):  # and not one of its own
            yield budget.named(**whose)


def day_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def month_now() -> str:
    return day_now()[:7]


def is_period(text: str) -> bool:
    """Whether it is a month like ``2026-11``, or a day like ``2026-11-28``."""
    if not _PERIOD.fullmatch(text):
        return False
    try:
        date.fromisoformat(text if len(text) > len("2026-11") else f"{text}-01")
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Compared:
    """What a tenant spent by the accounts, and by the rows; ``-``: calls without one."""

    tenant: str
    accounts: int
    rows: int

    @property
    def agrees(self) -> bool:
        """To the cent."""
        return abs(self.accounts - self.rows) < NANO // 100


def compared(of: Budgets, database: Database, period: str) -> list[Compared]:
    """The accounts of a day or month beside the rows, the largest difference first. Raises DatabaseUnavailable."""
    from fourlane.db.ai_rows import spent

    accounts = dict(by_name(of.look(ALL, period), "tenant"))
    rows = {account_name(tenant): nano for tenant, nano in spent(database, period).items()}
    found = [Compared(tenant, accounts.get(tenant, 0), rows.get(tenant, 0)) for tenant in accounts.keys() | rows.keys()]
    return sorted(found, key=lambda one: (-abs(one.accounts - one.rows), one.tenant))
