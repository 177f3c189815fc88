"""The providers that the settings have keys for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from fourlane.errors import SettingsError

if TYPE_CHECKING:
    from fourlane.config.groups.notifications import NotificationSettings
    from fourlane.config.groups.payments import PaymentSettings
    from fourlane.providers.health import Target
    from fourlane.providers.messages import Carrier
    from fourlane.providers.payments import Books
    from fourlane.providers.paypal import PayPalApi

__all__ = ["books", "carrier", "paypal_api", "plain"]


def paypal_api(settings: PaymentSettings) -> PayPalApi:
    """Raises SettingsError when there is no login."""
    from fourlane.providers.paypal import LIVE_URL, SANDBOX_URL, PayPalApi

    if settings.paypal_client_id is None or settings.paypal_client_secret is None:
        raise SettingsError("PAYPAL_CLIENT_ID and PAYPAL_CLIENT_SECRET are not set; take them from PayPal's dashboard")
    return PayPalApi(
        settings.paypal_client_id,
        settings.paypal_client_secret.get_secret_value(),
        base_url=settings.paypal_url or (SANDBOX_URL if settings.paypal_sandbox else LIVE_URL),
        allow_private=settings.paypal_url is not None and settings.environment == "local",
    )


def books(settings: PaymentSettings, provider: str) -> Books:
    """A payment provider's books. Raises SettingsError when there is no key."""
    if provider == "paypal":
        from fourlane.providers.paypal import PayPalBooks

        return PayPalBooks(paypal_api(settings))
    if provider != "stripe":
        raise SettingsError(f"{provider!r} is no payment provider; use stripe or paypal")
    if settings.stripe_secret_key is None:
        raise SettingsError("STRIPE_SECRET_KEY is not set; a restricted key that may read charges and invoices will do")
    try:
        from fourlane.providers.stripe import StripeBooks
    except ModuleNotFoundError as error:
        raise SettingsError(f"billing needs the package {error.name}; pip install 'fourlane[billing]'") from None
    return StripeBooks(
        settings.stripe_secret_key.get_secret_value(),
        accounts=settings.stripe_accounts.split(","),
        order_key=settings.stripe_order_key,
        base_url=settings.stripe_url,
    )


def carrier(
    settings: NotificationSettings,
    channel: Literal["email", "sms", "push", "slack", "pagerduty"],
    is_known: Callable[[str], bool],
    turn: Callable[[Target, float, float], None],
) -> Carrier:
    """The provider of a channel.

    Parameters:
      is_known: whether a message of this provider's id is one of ours.
      turn: waits for a target that takes so many calls a second, up to so many seconds.

    Raises SettingsError: the channel has none.
    """
    from fourlane.providers import messages

    seconds = settings.notification_timeout_seconds
    if channel == "email" and settings.smtp_url is not None:
        sender = _needed("FOURLANE_EMAIL_FROM", settings.email_from)
        return messages.Smtp(
            settings.smtp_url.get_secret_value(),
            sender=sender,
            timeout_seconds=seconds,
            allow_plain=settings.smtp_allow_plain,
        )
    if channel == "email":
        return messages.Resend(
            _needed("RESEND_API_KEY", settings.resend_api_key),
            sender=_needed("FOURLANE_EMAIL_FROM", settings.email_from),
            url=settings.resend_url,
            timeout_seconds=seconds,
            turn=lambda target, patience_seconds: turn(target, settings.resend_per_second, patience_seconds),
        )
    if channel == "sms":
        return messages.Twilio(
            _needed("TWILIO_ACCOUNT_SID", settings.twilio_account_sid),
            _needed("TWILIO_AUTH_TOKEN", settings.twilio_auth_token),
            sender=_needed("FOURLANE_SMS_FROM", settings.sms_from),
            url=settings.twilio_url,
            status_url=settings.twilio_status_url or "",
            timeout_seconds=seconds,
            is_known=is_known,
        )
    if channel == "push":
        return messages.WebPush(
            _needed("FOURLANE_VAPID_PRIVATE_KEY", settings.vapid_private_key),
            contact=_needed("FOURLANE_VAPID_CONTACT", settings.vapid_contact),
            allow_private=settings.push_allow_private,
            timeout_seconds=seconds,
        )
    if channel == "slack":
        url = _needed("FOURLANE_SLACK_WEBHOOK_URL", settings.slack_webhook_url)
        return messages.Slack(url, timeout_seconds=seconds)
    key = _needed("FOURLANE_PAGERDUTY_ROUTING_KEY", settings.pagerduty_routing_key)
    return messages.PagerDuty(key, url=settings.pagerduty_url, timeout_seconds=seconds)


class _Secret(Protocol):
    def get_secret_value(self) -> str: ...


def _needed(variable: str, value: _Secret | str | None) -> str:
    text = value if isinstance(value, str) else plain(value)
    if not text:
        raise SettingsError(f"{variable} is not set; docs/notifications.md says where to get it")
    return text


def plain(secret: _Secret | None) -> str:
    return "" if secret is None else secret.get_secret_value()
