"""Budgets: what a tenant may spend in a month, reserved before a call and settled after it."""

from __future__ import annotations

import logging
import time
from typing import Final

from fourlane.errors import RateLimited, Reject
from fourlane.queues.guards import Budgets
from fourlane.tasks.ai.config import MICRO, AiConfig, configured
from fourlane.tasks.ai.figures import NOBODY, label
from fourlane.tasks.health import PerStore
from fourlane.telling import tell

__all__ = ["BudgetSpent", "budgets", "dollars", "month_now", "reserve", "spending"]

log = logging.getLogger("fourlane.ai")

_POSTPONE_SECONDS: Final = 3_600.0


budgets: Final = PerStore(Budgets)


class BudgetSpent(Reject):
    """The call might pass a budget. Nobody was called."""


def reserve(config: AiConfig, tenant: str | None, month: str, call_id: str, micro_usd: int) -> None:
    """Set aside what a call may cost; warn where that passes 80 % of the budget.

    Raises:
      BudgetSpent, or RateLimited where ``over_budget`` says ``postpone``: it would pass the budget.
    """
    budget = config.budget(tenant or "")
    word, so_far = budgets.here().reserve(tenant or NOBODY, month, call_id, micro_usd, budget)
    who = tenant or "calls without a tenant"
    if word == "warn":
        tell.counted("ai_budget", (label(tenant), "warned"))
        log.warning("budget tenant=%s month=%s at %.0f %%", who, month, 100 * so_far / budget)
    if word != "over":
        return
    words = f"the budget of {who} for {month} is spent: ${so_far / MICRO:.4f} of ${budget / MICRO:.4f}, "
    words += f"and this call may cost ${micro_usd / MICRO:.4f}"
    if config.over_budget == "postpone":
        tell.counted("ai_budget", (label(tenant), "postponed"))
        log.warning("%s; postponed", words)
        raise RateLimited(_POSTPONE_SECONDS)
    tell.counted("ai_budget", (label(tenant), "refused"))
    raise BudgetSpent(words)


def spending(tenant: str, month: str | None = None) -> dict[str, float]:
    """Dollars that a tenant spent in a month (``2026-11``; this one by default): ``spent``, ``reserved``, and by
    ``model:…`` and ``task:…``; ``budget`` where it has one."""
    return dollars(tenant, budgets.here().look(tenant, month or month_now()))


def dollars(tenant: str, micro: dict[str, int]) -> dict[str, float]:
    """What is kept of a tenant's month, in dollars, with its budget."""
    found = {name: amount / MICRO for name, amount in micro.items()}
    budget = configured().budget("" if tenant == NOBODY else tenant)
    return found if budget < 0 else found | {"budget": budget / MICRO}


def month_now() -> str:
    return time.strftime("%Y-%m", time.gmtime())
