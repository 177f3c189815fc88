"""What ``fourlane doctor`` says of deliveries: are there some that nothing moves any more?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fourlane.db import migrate
from fourlane.errors import DatabaseUnavailable, RedisUnavailable
from fourlane.queues.doctor import Finding, Level
from fourlane.tasks.webhooks import jobless

if TYPE_CHECKING:
    from fourlane.db.engine import Database
    from fourlane.queues.store import Store

__all__ = ["examine_deliveries"]

_NAME: Final = "deliveries"
_FIX: Final = "housekeeping marks them as failed; send them again: fourlane webhooks resend --status pending"


def examine_deliveries(database: Database, store: Store) -> list[Finding]:
    """Look at the pending deliveries of a database. Raises nothing: a finding tells what cannot be asked."""
    try:
        if any(state.word == "pending" for state in migrate.status(database)):
            return []  # which the look at the outbox tells
        number, looked_at = jobless.count(database, store, before=datetime.now(UTC) - jobless.PATIENCE)
    except (DatabaseUnavailable, RedisUnavailable) as error:
        return [Finding(Level.WARN, _NAME, f"cannot be looked at: {error}")]
    if number:
        text = f"{number:,} of {looked_at:,} that have been pending for over an hour have no job any more"
        return [Finding(Level.WARN, _NAME, text, _FIX)]
    return [Finding(Level.OK, _NAME, f"{looked_at:,} have been pending for over an hour, each with its job")]
