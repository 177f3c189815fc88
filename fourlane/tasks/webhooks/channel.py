"""Tells operators, where ``FOURLANE_CHANNEL_URL`` says: that may be a secret, and is read by the job that tells."""

from __future__ import annotations

from typing import Final

from fourlane.root import root
from fourlane.tasks.task import task
from fourlane.tasks.webhooks.attempt import attempt, id_here
from fourlane.tasks.webhooks.policy import BACKOFF, JOB_MS, MAX_RETRIES, SERVICE, Policy

__all__ = ["tell_channel"]

# The address is one of the settings': it may be on this machine.
_POLICY: Final = Policy(allow_private=True, timeout_seconds=30)


@task(
    name="fourlane.webhooks.tell_channel",
    service=SERVICE,
    tier="P1",
    max_retries=MAX_RETRIES,
    backoff=BACKOFF,
    timeout_ms=JOB_MS,
)
async def tell_channel(text: str) -> None:
    """Post ``{"text": …}``; without the setting, nobody is to be told.

    Raises as `deliver` does.
    """
    from fourlane.providers.messages.alerts import escaped

    url = root().settings.channel_url
    if url is not None:
        await attempt(url.get_secret_value(), {"text": escaped(text)}, webhook_id=id_here(), by=_POLICY)
