"""Builds everything from settings, once. No behaviour of its own."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from fourlane.errors import DatabaseUnavailable, SettingsError
from fourlane.observe import Observe
from fourlane.queues.broker import Defaults, Opened
from fourlane.queues.connection import Connector, client_of
from fourlane.queues.store import Store

if TYPE_CHECKING:
    from fourlane.config import Settings
    from fourlane.db.engine import Database
    from fourlane.events.aws import Aws
    from fourlane.events.publisher import Publisher
    from fourlane.outbox.relay import Relay
    from fourlane.providers.health import Target
    from fourlane.providers.messages import Carrier
    from fourlane.providers.payments import Books
    from fourlane.providers.paypal import PayPalApi
    from fourlane.tasks.notifications.deliver import Setup
    from fourlane.tasks.notifications.ledger import Ledger
    from fourlane.tasks.notifications.notification import Channel
    from fourlane.tasks.notifications.templates import Templates
    from fourlane.tasks.notifications.wsgi import Pages
    from fourlane.webhooks.receive import Receiver
    from fourlane.webhooks.verify import Senders

T = TypeVar("T")

__all__ = [
    "Events",
    "Opening",
    "configure_ai",
    "configure_encryption",
    "configure_endpoints",
    "configure_webhooks",
    "default_events",
    "notification_ledger",
    "notification_pages",
    "notification_setup",
    "observe_of",
    "open_aws",
    "open_database",
    "open_from_settings",
    "open_publisher",
    "open_relay",
    "open_store",
    "opening_of",
    "opening_with",
    "paypal_api",
    "provider_books",
    "redis_url",
    "webhook_receiver",
    "webhook_senders",
    "work_on",
    "write_ai_row",
]


class Opening(msgspec.Struct, frozen=True):
    """What opening needs, as plain data: a supervisor hands it to its processes, which so need no settings."""

    redis_url: str
    namespace: str
    environment: str
    dead_max: int
    dead_ttl_ms: int
    crash_limit: int
    defaults: Defaults

    def __repr__(self) -> str:
        return f"Opening(namespace={self.namespace!r}, environment={self.environment!r})"

    def open(self) -> Opened:
        """Raises SettingsError: the address cannot be read."""
        return self.open_on(client_of(self.redis_url))

    def open_on(self, client: Any) -> Opened:
        """On a client of the caller's own."""
        store = Store(
            Connector(client),
            namespace=self.namespace,
            environment=self.environment,
            dead_max=self.dead_max,
            dead_ttl_ms=self.dead_ttl_ms,
            crash_limit=self.crash_limit,
        )
        return Opened(store, self.defaults)


_of_worker: Opening | None = None
"""In a worker process: what its supervisor works on."""


def work_on(opening: Opening) -> None:
    """From now on this process takes that where it would read the settings."""
    global _of_worker
    _of_worker = opening


def opening_with(**said: Any) -> Opening:
    """What brokers take that are made with an address of their own: all that they do not say themselves.

    Raises SettingsError.
    """
    from fourlane.config import load_settings

    return msgspec.structs.replace(_of_worker or opening_of(load_settings(), url=""), **said)


def opening_of(settings: Settings, url: str | None = None) -> Opening:
    """Raises SettingsError: there is no server, and no ``url`` is given."""
    return Opening(
        redis_url=redis_url(settings) if url is None else url,
        namespace=settings.namespace,
        environment=settings.environment,
        dead_max=settings.dead_max,
        dead_ttl_ms=settings.dead_ttl_days * 86_400_000,
        crash_limit=settings.crash_limit,
        defaults=Defaults(
            service=settings.service,
            max_retries=settings.max_retries,
            min_backoff_ms=settings.min_backoff_ms,
            max_backoff_ms=settings.max_backoff_ms,
            timeout_ms=settings.timeout_ms,
            hard_timeout_ms=settings.hard_timeout_ms,
            result_ttl_ms=settings.result_ttl_ms,
            max_body_bytes=settings.max_body_bytes,
            max_result_bytes=settings.max_result_bytes,
        ),
    )


def housekeeping(settings: Settings) -> dict[str, str]:
    """When the platform's own schedules run that do not run at their usual times; ``off``: never.

    Raises SettingsError: alerts are on and there is nobody to tell.
    """
    from fourlane.tasks import alerts

    times = {"alerts": "* * * * *"} | settings.maintenance if settings.alerts else settings.maintenance
    if times.get("alerts", "off") != "off":
        alerts.routes(settings)
    return times


def observe_of(settings: Settings) -> Observe:
    """What of a program's work is to be seen, and where."""
    return Observe(
        environment=settings.environment,
        service=settings.service,
        log_level=settings.log_level,
        metrics=settings.metrics,
        otlp_endpoint=settings.otlp_endpoint or "",
        otlp_metrics=settings.otlp_metrics,
        otlp_metrics_ms=settings.otlp_metrics_ms,
        trace_percent=settings.trace_percent,
        sentry_dsn=settings.sentry_dsn.get_secret_value() if settings.sentry_dsn else "",
        sentry_every_attempt=settings.sentry_every_attempt,
        sentry_percent=settings.sentry_percent,
        sentry_traces_percent=settings.sentry_traces_percent,
        sentry_release=settings.sentry_release or "",
    )


def open_from_settings(**changes: Any) -> Opened:
    """What a broker works on that names no server; ``changes`` of an Opening win. Raises SettingsError."""
    from fourlane.config import load_settings

    return msgspec.structs.replace(_of_worker or opening_of(load_settings()), **changes).open()


def open_store(settings: Settings) -> Store:
    """The jobs that these settings point at. Raises SettingsError."""
    return opening_of(settings).open().store


def configure_webhooks() -> None:
    """Give deliveries their settings; at the first one, so that producers do not load them. Raises SettingsError."""
    from fourlane.config import load_settings
    from fourlane.tasks import webhooks

    settings = load_settings()
    webhooks.configure(
        allow_private=settings.webhook_allow_private,
        timeout_seconds=settings.webhook_timeout_seconds,
        places=max(1, settings.slots // 2),
    )


def redis_url(settings: Settings) -> str:
    """REDIS_URL, else the embedded server that a running ``fourlane dev`` owns.

    Raises:
      SettingsError: there is neither.
    """
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    from fourlane.embedded import EmbeddedRedis

    server = EmbeddedRedis.find(settings.data_dir)
    if server is None:
        raise SettingsError(
            f"REDIS_URL is not set, and no `fourlane dev` runs on {settings.data_dir}; "
            "set REDIS_URL, or start `fourlane dev`"
        )
    return server.url


def open_database(settings: Settings) -> Database:
    """DATABASE_URL, else a SQLite file in the data folder; with the keys of encrypted columns.

    Raises:
      SettingsError: there is no DATABASE_URL in production, or a package is missing.
      EncryptionError: a key is none.
    """
    if settings.database_url is None and settings.environment == "production":
        raise SettingsError("DATABASE_URL: is not set, and production needs it; set it to postgresql://…")
    from fourlane.config.folder import from_start

    try:
        from fourlane.db import engine
    except ModuleNotFoundError as error:
        raise SettingsError(f"the database needs the package {error.name}; pip install 'fourlane[db]'") from None
    configure_encryption(settings)
    if settings.database_url is None:
        url = engine.sqlite_url(settings.data_dir / "fourlane.db")
    else:
        url = settings.database_url.get_secret_value()
    return engine.open_database(
        url,
        pool_size=settings.database_pool_size,
        pool_timeout_seconds=settings.database_pool_timeout_seconds,
        statement_timeout_ms=settings.database_statement_timeout_ms,
        transaction_pooler=settings.database_transaction_pooler,
        folder=from_start(Path()),
    )


def configure_ai() -> None:
    """Give AI calls their settings, at the first one. Raises SettingsError."""
    from fourlane.config import load_settings
    from fourlane.tasks import ai

    settings = load_settings()
    keys = {
        "openai": settings.openai_api_key,
        "anthropic": settings.anthropic_api_key,
        "google": settings.google_ai_api_key,
        "perplexity": settings.perplexity_api_key,
        "openrouter": settings.openrouter_api_key,
    }
    ai.configure(
        ai.AiConfig(
            api_keys={name: key.get_secret_value() for name, key in keys.items() if key is not None},
            database=open_database(settings) if settings.ai.log_rows else None,
            **settings.ai.model_dump(exclude={"log_rows"}),
        )
    )


def write_ai_row(database: Database, row: dict[str, Any]) -> None:
    """Add a row to ``ai_operation_logs``, once for each id. Raises DatabaseUnavailable."""
    from fourlane.db.engine import unavailable
    from fourlane.db.models import AiOperationLog

    try:
        with database.begin() as session:
            if session.get(AiOperationLog, row["id"]) is None:
                session.add(AiOperationLog(**row))
    except DatabaseUnavailable:
        raise
    except Exception as error:  # e.g. an organization that is none
        raise unavailable(error) from error


def open_relay(settings: Settings, store: Store) -> Relay:
    """A relay from the database of these settings to this store. Raises as open_database does."""
    database = open_database(settings)
    from fourlane.outbox.relay import Relay

    return Relay(database, store, batch=min(settings.outbox_batch, 1_000), keep_seconds=settings.outbox_keep_seconds)


def configure_encryption(settings: Settings | None = None) -> None:
    """Give this process the keys of FOURLANE_ENCRYPTION_KEYS; locally, without any, a key in the data folder."""
    from fourlane import crypto

    if settings is None:
        from fourlane.config import load_settings

        settings = load_settings()

    if settings.encryption_keys is not None:
        crypto.configure(crypto.Keyring(settings.encryption_keys.get_secret_value().split(",")))
    elif settings.environment == "local":
        crypto.configure(crypto.Keyring([crypto.key_of_file(settings.data_dir / "encryption.key")]))


def webhook_receiver(settings: Settings) -> Receiver:
    """What takes the webhooks of those providers whose secrets are set; refusals go to ``security_events``."""
    from fourlane.webhooks.receive import Receiver, Refusal

    database: list[Database] = []  # opened at the first refusal: until then none is needed

    def report(refusal: Refusal) -> None:
        from fourlane.db.security import record_refusal

        if not database:
            database.append(open_database(settings))
        record_refusal(database[0], **asdict(refusal))

    return Receiver(
        webhook_senders(settings),
        allow=settings.webhook_allow_from,
        report=report,
        per_minute=settings.webhook_rate,
    )


def webhook_senders(settings: Settings) -> Senders:
    """What the providers sign with."""
    from fourlane.webhooks.verify import Senders

    return Senders(
        stripe_secrets=_several(settings.stripe_webhook_secrets, ","),
        paypal=_paypal_webhooks(settings),
        supabase_secrets=_several(settings.supabase_webhook_secrets, ","),
        supabase_hook_secrets=_several(settings.supabase_hook_secrets, "|"),
    )


def _paypal_webhooks(settings: Settings) -> Any:
    from fourlane.webhooks.paypal import PayPal

    if settings.paypal_webhook_id is None:
        return None
    sandbox = ".sandbox" if settings.paypal_sandbox else ""
    return PayPal(
        settings.paypal_webhook_id,
        certificate_host=f"api{sandbox}.paypal.com",
        certificate_name=f"messageverificationcerts{sandbox}.paypal.com",
        way=settings.paypal_webhook_way,
        api=paypal_api(settings) if settings.paypal_webhook_way == "postback" else None,
    )


def paypal_api(settings: Settings) -> PayPalApi:
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


def _several(secrets: Any, separator: str) -> tuple[str, ...]:
    if secrets is None:
        return ()
    return tuple(part.strip() for part in secrets.get_secret_value().split(separator) if part.strip())


def provider_books(settings: Settings, provider: str) -> Books:
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
    return StripeBooks(settings.stripe_secret_key.get_secret_value(), base_url=settings.stripe_url)


def configure_endpoints() -> None:
    """Give deliveries to endpoints their database, at the first one. Raises SettingsError."""
    from datetime import timedelta

    from fourlane.config import load_settings
    from fourlane.tasks import endpoints

    settings = load_settings()
    endpoints.configure(
        open_database(settings),
        disable_after=timedelta(days=settings.webhook_disable_days),
        channel_url=settings.channel_url.get_secret_value() if settings.channel_url is not None else None,
    )


@dataclass(frozen=True)
class Events:
    """Where events go to and come from."""

    aws: Aws
    bucket: str


@functools.cache
def default_events() -> Events:
    """What the settings point at, opened once. Raises SettingsError, EventsUnavailable."""
    from fourlane.config import load_settings

    settings = load_settings()
    return Events(open_aws(settings), settings.events_bucket)


def open_aws(settings: Settings) -> Aws:
    """AWS as its own variables describe it, else the server of a running ``fourlane dev``.

    Only in the environment ``local`` is a missing queue made on first use.

    Raises:
      SettingsError: there is neither.
      EventsUnavailable: the variables lack something.
    """
    from fourlane.events import aws, local, provision

    missing = provision.ensure if settings.environment == "local" else None
    if aws.is_configured() or settings.environment != "local":
        return aws.Aws(on_missing=missing)
    endpoint = local.find(settings.data_dir)
    if endpoint is None:
        raise SettingsError(
            f"no AWS settings were found, and no `fourlane dev` with an SQS server runs on {settings.data_dir}; set "
            "AWS_REGION and credentials, or AWS_ENDPOINT_URL, or start `fourlane dev`"
        )
    return aws.Aws(region=local.REGION, endpoint=endpoint, keys=local.KEYS, on_missing=missing)


def open_publisher() -> Publisher:
    """The publisher that the settings describe. Raises SettingsError, EventsUnavailable."""
    from fourlane.config import load_settings
    from fourlane.events.buffer import Buffer
    from fourlane.events.publisher import Publisher

    settings = load_settings()
    publisher = Publisher(
        open_aws(settings),
        environment=settings.environment,
        source=f"/{settings.environment}/{settings.service}",
        bucket=settings.events_bucket,
        max_bytes=settings.events_max_bytes,
        buffer=Buffer(settings.data_dir / "events", settings.events_buffer) if settings.events_buffer else None,
    )
    atexit.register(publisher.close)
    return publisher


# Notifications ----------------------------------------------------------------------------------------------------


def notification_setup() -> Setup:
    """How notifications are sent; each part is opened when it is first needed. Raises SettingsError."""
    from fourlane.config import load_settings
    from fourlane.tasks.notifications import unsubscribe
    from fourlane.tasks.notifications.deliver import Setup

    settings = load_settings()

    def templates() -> Templates:
        from fourlane.tasks.notifications.templates import Templates

        return Templates(settings.notification_templates)

    ledger = _once(lambda: _open_ledger(settings))
    carriers: dict[Channel, Carrier] = {}

    def carrier(channel: Channel) -> Carrier:
        # Made twice by two threads at once, one of them is forgotten: none holds a connection.
        if channel not in carriers:
            carriers[channel] = _carrier(settings, channel, ledger)
        return carriers[channel]

    def guard(target: Target, call: Callable[[], T]) -> T:
        from fourlane.providers.messages import read_error
        from fourlane.tasks.health import when_well

        return when_well(target, call, read=read_error, timeout_seconds=settings.notification_timeout_seconds)

    return Setup(
        templates=_once(templates),
        ledger=ledger,
        carrier=carrier,
        unsubscribe_url=lambda channel, given: unsubscribe.link(settings.unsubscribe_url or "", channel, given),
        alert_email=settings.alert_email or "",
        guard=guard,
    )


def notification_pages() -> Pages:
    """The pages for reports and unsubscribing. Raises SettingsError."""
    from fourlane.config import load_settings
    from fourlane.tasks.notifications.wsgi import Pages

    settings = load_settings()
    return Pages(
        _open_ledger(settings),
        resend_secret=_plain(settings.resend_webhook_secret),
        twilio_token=_plain(settings.twilio_auth_token),
        twilio_url=settings.twilio_status_url or "",
    )


def notification_ledger(settings: Settings) -> Ledger | None:
    """The records of notifications, opened; None where there is no database of them."""
    if importlib.util.find_spec("sqlalchemy") is None:
        return None
    if settings.database_url is None and not (settings.data_dir / "fourlane.db").exists():
        return None
    ledger = _open_ledger(settings)
    if ledger.is_there():
        return ledger
    ledger.close()
    return None


def _open_ledger(settings: Settings) -> Ledger:
    database = open_database(settings)
    from fourlane.tasks.notifications.ledger import Ledger

    limits = {channel: (limit.rate, limit.per_ms) for channel, limit in settings.notification_user_limits.items()}
    return Ledger(database, limits)


def _carrier(settings: Settings, channel: Channel, ledger: Callable[[], Ledger]) -> Carrier:
    """Raises SettingsError: the channel has no provider."""
    from fourlane.providers import messages

    seconds = settings.notification_timeout_seconds
    if channel == "email" and settings.smtp_url is not None:
        sender = _needed("FOURLANE_EMAIL_FROM", settings.email_from)
        return messages.Smtp(settings.smtp_url.get_secret_value(), sender=sender, timeout_seconds=seconds)
    if channel == "email":
        return messages.Resend(
            _needed("RESEND_API_KEY", settings.resend_api_key),
            sender=_needed("FOURLANE_EMAIL_FROM", settings.email_from),
            url=settings.resend_url,
            timeout_seconds=seconds,
        )
    if channel == "sms":
        return messages.Twilio(
            _needed("TWILIO_ACCOUNT_SID", settings.twilio_account_sid),
            _needed("TWILIO_AUTH_TOKEN", settings.twilio_auth_token),
            sender=_needed("FOURLANE_SMS_FROM", settings.sms_from),
            url=settings.twilio_url,
            status_url=settings.twilio_status_url or "",
            timeout_seconds=seconds,
            is_known=lambda message_id: ledger().knows(message_id),
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
    text = value if isinstance(value, str) else _plain(value)
    if not text:
        raise SettingsError(f"{variable} is not set; docs/notifications.md says where to get it")
    return text


def _plain(secret: _Secret | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def _once(make: Callable[[], T]) -> Callable[[], T]:
    """Makes it at the first call, for all threads."""
    lock = threading.Lock()
    made: list[T] = []

    def get() -> T:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get
