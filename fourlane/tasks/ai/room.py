"""What there is room for: in a model's window, and in budgets for several calls together. Calls nobody."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from fourlane.providers.ai import Usage
from fourlane.tasks.ai.asking import tenant_of
from fourlane.tasks.ai.budgets import budgets, month_now, reserve
from fourlane.tasks.ai.config import MICRO, configured
from fourlane.tasks.ai.figures import NOBODY
from fourlane.tasks.ai.prices import context_window, cost

__all__ = ["check_affordable", "tokens_read"]


def tokens_read(model: str, unknown: int) -> int:
    """What one call of a model may read, answer included: its window, or a limit of tokens a minute below that.

    Parameters:
      unknown: where nobody knows the window.
    """
    config = configured()
    full = config.resolve(model)
    window = context_window(full) or unknown
    return min(window, config.rules(full).tokens_per_minute or window)


async def check_affordable(operation: str, model: str, tenant: str | None, calls: Sequence[Usage]) -> None:
    """Whether the budgets have room for all calls together, before the first is made.

    Raises:
      BudgetSpent, or RateLimited where ``over_budget`` says ``postpone``.
    """
    config = configured()
    full, tenant, key = config.resolve(model), tenant_of(tenant), f"fourlane-{uuid.uuid4()}"
    most = sum(cost(config, full, usage) or 0.0 for usage in calls)
    month = month_now()
    await asyncio.to_thread(reserve, config, tenant, month, key, int(most * MICRO + 1))
    await asyncio.to_thread(budgets.here().settle, tenant or NOBODY, month, key, 0, ())
