"""Budgets: what may be spent, reserved before a call and settled after it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fourlane.errors import InvalidArguments, RateLimited, Reject
from fourlane.names import parse_queue
from fourlane.queues.guards import Bound, Budgets, PaidCall
from fourlane.queues.guards.budgets import ALL
from fourlane.queues.store import Store
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.figures import label
from fourlane.tasks.ai.money.budget_rules import NANO, Budget, applying
from fourlane.tasks.ai.money.prices import Charge
from fourlane.tasks.ai.whose import account_name, tenant_of
from fourlane.tasks.context import current_job, running
from fourlane.tasks.health import PerStore
from fourlane.telling import tell

__all__ = ["BudgetSpent", "budgets", "paid_call", "refuse_at_once", "refuse_beyond", "reserve"]

log = logging.getLogger("fourlane.ai")

_POSTPONE_SECONDS: Final = 3_600.0
_REFUSING_MS: Final = 600_000  # a refusal is news for so long
_LONGEST_MS: Final = 3_600_000  # a call that no job makes
_SWEEP_SECONDS: Final = 1.0
_NO_PRICE: Final = (
    "no price is known for {full}, so no budget can bound it; give one in FOURLANE_AI as "
    '"prices", or say as "unpriced_usd" what each such call is booked at'
)


class Books:
    """The budgets of a store; what dead jobs hold of them is given back before anybody is refused."""

    def __init__(self, store: Store) -> None:
        self.budgets = Budgets(store)
        self._lock = threading.Lock()
        self._swept_at = -_SWEEP_SECONDS

    def sweep(self) -> None:
        with self._lock:
            if time.monotonic() - self._swept_at >= _SWEEP_SECONDS:
                self.budgets.sweep(int(time.time() * 1000))
                self._swept_at = time.monotonic()


budgets: Final = PerStore(Books)


class BudgetSpent(Reject):
    """The call might pass a budget. Nobody was called."""


def paid_call(call_id: str, operation: str, full: str, tenant: str | None) -> PaidCall:
    """A call of the job that runs here, or of none, that begins now."""
    run, job = running.get(), current_job()
    whose: dict[str, Any] = {"until_ms": int(time.time() * 1000) + _LONGEST_MS}
    if run is not None and run.steps is not None and job is not None:
        whose = {"service": parse_queue(job.queue, run.store.environment).service, "job": job.id}
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return PaidCall(call_id, account_name(tenant), day, operation if job is None else job.task, full, **whose)


def refuse_at_once(config: AiConfig, full: str, tenant: str | None, task: str | None, *, priced: bool) -> None:
    """Raises InvalidArguments: a budget of the call is 0, or there is one and the model has no price."""
    found = applying(config.all_budgets(), tenant or "", task or "", full)
    for budget in found:
        if budget.nano == 0 and priced:
            raise InvalidArguments(f"the budget of {budget} is 0; raise it in FOURLANE_AI")
    if found and not priced:
        raise InvalidArguments(_NO_PRICE.format(full=full))


def reserve(config: AiConfig, call: PaidCall, most: Charge) -> None:
    """Set aside what a call may cost, in all its budgets or in none; warn where one is near its end.

    Raises:
      BudgetSpent, or RateLimited where ``over_budget`` says ``postpone``: it would pass one.
    """
    tenant = tenant_of(call.tenant)
    found = applying(config.all_budgets(), tenant, call.task, call.model)
    if found and not most.priced:
        raise BudgetSpent(_NO_PRICE.format(full=call.model))
    kept, bounds = budgets.here(), [_bound(config, budget) for budget in found]
    asked = kept.budgets.reserve(call, most.nano, bounds)
    if asked.over is not None:  # what dead jobs hold may be what is missing
        kept.sweep()
        postpone_ms = int(_POSTPONE_SECONDS * 1000) if config.over_budget == "postpone" else 0
        asked = kept.budgets.reserve(call, most.nano, bounds, refusing_ms=_REFUSING_MS + postpone_ms)
    for place, used in asked.warned:
        tell.counted("ai_budget", (label(tenant), "warned"))
        log.warning("budget of %s at %.0f %%: $%.4f", found[place], 100 * used / max(1, found[place].nano), used / NANO)
    if asked.over is not None:
        _refuse(config, found[asked.over], tenant, asked.used, most.nano)


def refuse_beyond(config: AiConfig, call: PaidCall, most: Charge) -> None:
    """Refuse what the budgets have no room for now; nothing is set aside. Raises as reserve does."""
    tenant = tenant_of(call.tenant)
    found = applying(config.all_budgets(), tenant, call.task, call.model)
    if found and not most.priced:
        raise BudgetSpent(_NO_PRICE.format(full=call.model))
    kept = budgets.here().budgets
    for budget in found:
        whose = ALL if budget.tenant is None else call.tenant
        used = kept.look(whose, call.day if budget.per == "day" else call.day[:7]).used(bounded(budget))
        if used + most.nano > budget.nano:
            _refuse(config, budget, tenant, used, most.nano)


def _refuse(config: AiConfig, budget: Budget, tenant: str, used: int, nano: int) -> None:
    words = f"the budget of {budget} is spent: ${used / NANO:.4f} of ${budget.nano / NANO:.4f}, "
    words += f"and this call may cost ${nano / NANO:.4f}"
    if config.over_budget == "postpone":
        tell.counted("ai_budget", (label(tenant), "postponed"))
        log.warning("%s; postponed", words)
        raise RateLimited(_POSTPONE_SECONDS)
    tell.counted("ai_budget", (label(tenant), "refused"))
    raise BudgetSpent(words)


def _bound(config: AiConfig, budget: Budget) -> Bound:
    account = (0 if budget.tenant is not None else 2) + (budget.per == "day")
    warn_at = config.warn_at if budget.warn_at is None else budget.warn_at
    return Bound(account, bounded(budget), budget.nano, int(budget.nano * warn_at))


def bounded(budget: Budget) -> str:
    """What a budget bounds of its account."""
    kinds: Sequence[tuple[str, str | None]] = (("task", budget.task), ("model", budget.model))
    return next((f"{kind}:{name}" for kind, name in kinds if name is not None), "")
