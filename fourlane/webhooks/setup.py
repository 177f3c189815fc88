"""The receiver of webhooks, and what their senders sign with, as the settings say."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fourlane.db.setup import database
from fourlane.providers.setup import paypal_api, plain
from fourlane.root import Root
from fourlane.webhooks.receive import Receiver, Refusal
from fourlane.webhooks.verify import Senders

if TYPE_CHECKING:
    from fourlane.config.groups.webhooks import WebhookSettings
    from fourlane.webhooks.paypal import PayPal

__all__ = ["receiver", "senders"]


def receiver(of: Root) -> Receiver:
    """What takes the webhooks of those providers whose secrets are set; refusals go to ``security_events``."""

    def report(refusal: Refusal) -> None:
        from fourlane.db.security import record_refusal

        record_refusal(of.part(database), **asdict(refusal))

    settings: WebhookSettings = of.settings
    return Receiver(
        senders(settings),
        allow=settings.webhook_allow_from,
        report=report,
        per_minute=settings.webhook_rate,
    )


def senders(settings: WebhookSettings) -> Senders:
    """What the providers sign with."""
    return Senders(
        stripe_secrets=_several(plain(settings.stripe_webhook_secrets), ","),
        paypal=_paypal_webhooks(settings),
        supabase_secrets=_several(plain(settings.supabase_webhook_secrets), ","),
        supabase_hook_secrets=_several(plain(settings.supabase_hook_secrets), "|"),
    )


def _paypal_webhooks(settings: WebhookSettings) -> PayPal | None:
    from fourlane.webhooks.certificates import Certificates
    from fourlane.webhooks.paypal import PayPal

    if settings.paypal_webhook_id is None:
        return None
    sandbox = ".sandbox" if settings.paypal_sandbox else ""
    return PayPal(
        settings.paypal_webhook_id.get_secret_value(),
        Certificates(f"api{sandbox}.paypal.com", f"messageverificationcerts{sandbox}.paypal.com"),
        way=settings.paypal_webhook_way,
        api=None if settings.paypal_webhook_way == "offline" else paypal_api(settings),
    )


def _several(secrets: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in secrets.split(separator) if part.strip())
