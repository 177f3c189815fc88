"""Notifications: the providers of each channel, and what users and operators get."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, Field, SecretStr

from fourlane.config.groups.group import Group
from fourlane.config.values import Folder, Item, Milliseconds, Positive, Switch, at_least, json_object

__all__ = ["NotificationSettings", "UserLimit"]

_LIMITED_CHANNELS: Final = ("email", "sms", "push")


PAGERDUTY: Final = {"us": "https://events.pagerduty.com", "eu": "https://events.eu.pagerduty.com"}
"""The addresses of its service regions."""


class UserLimit(Item):
    """How many messages one user may get in a time."""

    example: ClassVar = '{"rate": 5, "per_ms": 86400000}'

    rate: Positive
    per_ms: Milliseconds = 86_400_000


def _check_channel(name: str) -> str:
    if name not in _LIMITED_CHANNELS:
        raise ValueError(f"{name!r} is no channel with users; use {', '.join(_LIMITED_CHANNELS)}")
    return name


UserLimits = Annotated[
    dict[Annotated[str, AfterValidator(_check_channel)], UserLimit],
    json_object(f'write {{"sms": {UserLimit.example}}}'),
]


class NotificationSettings(Group):
    notification_templates: Folder = Path("templates")
    """The folder of the templates."""
    notification_user_limits: UserLimits = Field(default_factory=dict)
    """How many messages one user may get on a channel; in the variable, a JSON object."""
    notification_timeout_seconds: Annotated[int, at_least(1, 59)] = 30
    """For one call to a provider."""
    # A digest may be open for 30 days.
    notification_keep_days: Annotated[int, at_least(31, bound=3_650)] = 90
    """How long records of notifications are kept."""
    unsubscribe_url: str | None = None
    """The address of the page for unsubscribing; emails get a link to it."""

    email_from: str | None = None
    """The sender of emails: ``Name <name@example.com>``, of a domain that the provider knows."""
    smtp_url: SecretStr | None = None
    """Send emails here and not by Resend: smtp://HOST:PORT or smtps://USER:PASSWORD@HOST."""
    smtp_allow_plain: Switch = False
    """Send the login of smtp:// without TLS to other machines too, where the whole network is trusted."""
    resend_api_key: SecretStr | None = Field(None, validation_alias="RESEND_API_KEY")
    resend_webhook_secret: SecretStr | None = None
    """What Resend signs its reports with, whsec_…."""
    resend_url: str = "https://api.resend.com"
    resend_per_second: Annotated[int, at_least(1, 1_000)] = 2
    """Requests that the account at Resend may make in a second, over all workers."""

    sms_from: str | None = None
    """The sender of SMS: a number of ours, or the id of a messaging service (MG…)."""
    twilio_account_sid: str | None = Field(None, validation_alias="TWILIO_ACCOUNT_SID")
    twilio_auth_token: SecretStr | None = Field(None, validation_alias="TWILIO_AUTH_TOKEN")
    twilio_status_url: str | None = None
    """Where Twilio reports what became of an SMS: the public address of our endpoint."""
    twilio_url: str = "https://api.twilio.com"

    vapid_private_key: SecretStr | None = None
    """Signs push messages; the private key in base64url."""
    vapid_contact: str | None = None
    """Whom a push service may write to: mailto:NAME@example.com."""
    push_allow_private: Switch = False
    """Call push services on private and loopback addresses too."""

    slack_webhook_url: SecretStr | None = None
    """Where alerts for Slack go: an incoming webhook."""
    pagerduty_routing_key: SecretStr | None = None
    """The integration key of a service at PagerDuty."""
    pagerduty_url: Annotated[str, AfterValidator(lambda text: PAGERDUTY.get(text.lower(), text))] = "us"
    """Where PagerDuty takes events: us, eu, or a URL."""
    alert_email: str | None = None
    """Who gets alerts that are for information only."""
