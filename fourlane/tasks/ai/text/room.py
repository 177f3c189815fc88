"""What there is room for: in a model's window, and in budgets for several calls together. Calls nobody."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from fourlane.providers.ai import Usage
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.money.budgets import paid_call, refuse_beyond
from fourlane.tasks.ai.money.prices import charge, context_window

__all__ = ["check_affordable", "tokens_read"]


def tokens_read(model: str, unknown: int) -> int:
    """What one call of a model may read, answer included: its window, or a limit of tokens a minute below that.

    Parameters:
      unknown: where nobody knows the window.
    """
    config = configured()
    full = config.living(model)[0]
    window = context_window(full) or unknown
    return min(window, config.rules(full).tokens_per_minute or window)


async def check_affordable(operation: str, model: str, tenant: str | None, calls: Sequence[Usage]) -> None:
    """Whether the budgets have room for all calls together, before the first is made.

    Raises:
      BudgetSpent, or RateLimited where ``over_budget`` says ``postpone``.
    """
    config = configured()
    full = config.living(model)[0]
    call = paid_call(f"fourlane-{uuid.uuid4()}", operation, full, tenant)
    await asyncio.to_thread(refuse_beyond, config, call, charge(config, full, calls))
