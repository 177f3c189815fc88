"""Typed settings from the environment and the environment's file.

The platform's variables keep their names (``REDIS_URL``); Fourlane's own begin with ``FOURLANE_``.
``FOURLANE_ENVIRONMENT`` chooses the file, ``.env.local``, ``.env.staging`` or ``.env.production``, in the
current directory. What the process environment says wins over the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args
from urllib.parse import parse_qs, urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fourlane.config.folder import from_start
from fourlane.errors import SettingsError
from fourlane.names import check_service, parse_queue

__all__ = ["QueueLimit", "Settings", "UserLimit", "load_settings"]

_PREFIX: Final = "FOURLANE_"
_REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://")
_URLS: Final = ("redis_url", "database_url")
_NAMESPACE: Final = re.compile(r"[a-zA-Z0-9_-]{1,63}")
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://[0-9a-fA-F.:\[\]]+:\d+")
# What Kubernetes gives each pod for a Service whose name begins like our variables: names, and the values they have.
_SERVICE_LINKS: Final = (
    (re.compile(r"\w+_SERVICE_HOST|\w+_PORT_\d+_(TCP|UDP|SCTP)_ADDR"), re.compile(r"[0-9a-fA-F.:]+")),
    (re.compile(r"\w+_SERVICE_PORT(_\w+)?|\w+_PORT_\d+_(TCP|UDP|SCTP)_PORT"), re.compile(r"\d+")),
    (re.compile(r"\w+_PORT(_\d+_(TCP|UDP|SCTP))?"), _SERVICE_URL),
    (re.compile(r"\w+_PORT_\d+_(TCP|UDP|SCTP)_PROTO"), re.compile(r"tcp|udp|sctp")),
)


def _canonical(environment: Any) -> Any:
    """The platform's document says "preview" where its names say "staging"."""
    return "staging" if environment == "preview" else environment


def _or_say(fault: str) -> WrapValidator:
    """Name the fault and the fix in our words, in place of pydantic's."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(f"{value!r} is {fault}") from None

    return WrapValidator(check)


def _at_least(least: int, most: int | None = None, *, bound: int = 1_000_000_000) -> WrapValidator:
    """``bound``: what nobody needs, and what some part could not take."""
    fix = f"use {least} or more" if most is None else f"use {least} to {most}"

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            number = validate(value)
        except ValidationError:
            raise ValueError(f"{value!r} is not a whole number; {fix}") from None
        if number < least:
            raise ValueError(f"{value!r} is too small; {fix}")
        if most is not None and number > most:
            raise ValueError(f"{value!r} is too large; {fix}")
        if number > bound:
            raise ValueError(f"{value!r} is too large; use {least} to {bound}")
        return number

    return WrapValidator(check)


def _port() -> WrapValidator:
    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            number = validate(value)
        except ValidationError:
            number = -1
        if _SERVICE_URL.fullmatch(str(value)):
            raise ValueError(
                f"{value!r} is what Kubernetes sets for a Service of this name; "
                "set enableServiceLinks: false, or a port"
            )
        if not 0 <= number <= 65_535:
            raise ValueError(f"{value!r} is no port; use 1 to 65535, or 0 for none")
        return number

    return WrapValidator(check)


def _between(least: int, most: int) -> WrapValidator:
    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            number = validate(value)
        except ValidationError:
            number = None
        if number is None or not least <= number <= most:
            raise ValueError(f"{value!r} does not fit; use a whole number from {least} to {most}")
        return number

    return WrapValidator(check)


def _check_namespace(namespace: str) -> str:
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(f"{namespace!r} is no namespace; use letters, digits, - and _, at most 63")
    return namespace


def _parsed(text: str) -> Any:
    """Raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _full_name(queue: str, info: ValidationInfo) -> str:
    environment = info.data.get("environment")
    # A wrong environment is a fault of its own; the queue cannot be judged then.
    return queue if environment is None else parse_queue(queue, environment).name(environment)


def _read_limits(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, str):
        try:
            value = _parsed(value)
        except ValueError as error:
            raise ValueError(f"is not JSON: {error}; {_LIMITS_FIX}") from None
    if not isinstance(value, dict):
        raise ValueError(f"is not a JSON object; {_LIMITS_FIX}")
    limits = validate(value)
    if len(limits) < len(value):
        raise ValueError("names a queue twice, in full and without its environment; keep one of them")
    return limits


def _read_user_limits(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, str):
        try:
            value = _parsed(value)
        except ValueError as error:
            raise ValueError(f"is not JSON: {error}; {_USER_LIMITS_FIX}") from None
    if not isinstance(value, dict):
        raise ValueError(f"is not a JSON object; {_USER_LIMITS_FIX}")
    return validate(value)


def _channel(name: str) -> str:
    if name not in _LIMITED_CHANNELS:
        raise ValueError(f"{name!r} is no channel with users; use {', '.join(_LIMITED_CHANNELS)}")
    return name


_USER_LIMITS_FIX: Final = 'write {"sms": {"rate": 5, "per_ms": 86400000}}'
_LIMITED_CHANNELS: Final = ("email", "sms", "push")


def _read_networks(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        networks = validate(_parsed(value) if isinstance(value, str) else value)
        for name in (name for names in networks.values() for name in names):
            ip_network(name)
    except ValidationError:
        raise ValueError(f"does not name networks by provider; {_NETWORKS_FIX}") from None
    except ValueError as error:
        raise ValueError(f"cannot be read: {error}; {_NETWORKS_FIX}") from None
    return networks


_NETWORKS_FIX: Final = 'write {"stripe": ["3.18.12.63/32"]}'


def _read_maintenance(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    fix = f"""write {{"doctor": "off", "limits": "0 5 * * *"}}; there are {", ".join(HOUSEKEEPING)}"""
    try:
        moved = validate(_parsed(value) if isinstance(value, str) else value)
    except ValueError:
        raise ValueError(f"is not a JSON object of texts; {fix}") from None
    if unknown := set(moved) - set(HOUSEKEEPING):
        raise ValueError(f"names what there is not: {', '.join(sorted(unknown))}; {fix}")
    return moved


HOUSEKEEPING: Final = ("dead-letters", "limits", "doctor", "notifications", "alerts")
"""What tasks/upkeep/maintenance.py does."""

_LIMITS_FIX: Final = 'write {"jobs.high.SERVICE": {"rate": 10, "per_ms": 1000}}'

Positive = Annotated[int, _at_least(1)]
Size = Annotated[int, _between(1_024, 512 * 1_048_576)]
"""Of a value in Redis, which takes no larger one."""
ZeroOrMore = Annotated[int, _at_least(0)]
Seconds = Annotated[int, _at_least(0, bound=315_360_000)]
Milliseconds = Annotated[int, _at_least(1, bound=315_360_000_000)]
"""Up to ten years, as ``Seconds``."""
Folder = Annotated[Path, AfterValidator(from_start), Field(validate_default=True)]
Switch = Annotated[bool, _or_say("not a switch; use true or false")]
_Environment = Literal["local", "staging", "production"]
Environment = Annotated[
    _Environment,
    _or_say("no environment; use local, staging or production"),
    BeforeValidator(_canonical),
]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARN", "ERROR"], _or_say("no log level; use DEBUG, INFO, WARN or ERROR")]


class QueueLimit(BaseModel):
    """How many jobs of one queue may start in a time, and how many may run at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Positive | None = None
    """Jobs that may start in ``per_ms``; None: any number."""
    per_ms: Milliseconds = 1_000
    burst: Positive | None = None
    """Jobs that may start together after a quiet time; None: left to the limiter."""
    concurrency: Positive | None = None
    """Jobs that may run at once, over all workers; None: any number."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.rate is None and (self.concurrency is None or self.burst is not None):
            raise ValueError("has no rate; give one, or a concurrency alone")
        return self


class AiSettings(BaseModel):
    """How AI providers are called; what each field means is said in docs/ai.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_urls: dict[str, str] = Field(default_factory=dict)
    models: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(default_factory=dict)
    fallbacks: dict[str, list[str]] = Field(default_factory=dict)
    prices: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(default_factory=dict)
    budgets_usd: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    over_budget: Literal["refuse", "postpone"] = "refuse"
    log_rows: bool = False


def _read_ai(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, str):
        try:
            value = _parsed(value)
        except ValueError as error:
            raise ValueError(f"is not JSON: {error}; docs/ai.md shows what to write") from None
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}; docs/ai.md shows what to write") from None


class UserLimit(BaseModel):
    """How many messages one user may get in a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Positive
    per_ms: Milliseconds = 86_400_000


class Settings(BaseSettings):
    """Everything that can be set, checked. Get one from ``load_settings``."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_prefix=_PREFIX,
        env_ignore_empty=True,
        populate_by_name=True,
        # A .env file is shared with the web tier and holds names that are none of ours;
        # load_settings finds the misspelt ones among those that are.
        extra="ignore",
        hide_input_in_errors=True,
    )

    # First, because the checks of others look at it.
    environment: Environment = "local"
    """Which of the platform's environments this is; the first word of every queue's name."""

    redis_url: SecretStr | None = Field(None, validation_alias="REDIS_URL")
    """Where the queues are; production needs it, elsewhere None means the embedded server."""
    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    """PostgreSQL; production needs it where the database is used, elsewhere None means a SQLite file in data_dir.

    The relative name of a SQLite file, as that of data_dir, starts from the folder in which a program was started.
    """
    stripe_secret_key: SecretStr | None = Field(None, validation_alias="STRIPE_SECRET_KEY")
    stripe_publishable_key: str | None = Field(None, validation_alias="STRIPE_PUBLISHABLE_KEY")
    paypal_client_id: str | None = Field(None, validation_alias="PAYPAL_CLIENT_ID")
    paypal_client_secret: SecretStr | None = Field(None, validation_alias="PAYPAL_CLIENT_SECRET")
    openai_api_key: SecretStr | None = Field(None, validation_alias="OPENAI_API_KEY")
    anthropic_api_key: SecretStr | None = Field(None, validation_alias="ANTHROPIC_API_KEY")
    google_ai_api_key: SecretStr | None = Field(None, validation_alias="GOOGLE_AI_API_KEY")
    perplexity_api_key: SecretStr | None = Field(None, validation_alias="PERPLEXITY_API_KEY")
    openrouter_api_key: SecretStr | None = Field(None, validation_alias="OPENROUTER_API_KEY")
    next_public_supabase_url: str | None = Field(None, validation_alias="NEXT_PUBLIC_SUPABASE_URL")
    supabase_service_role_key: SecretStr | None = Field(None, validation_alias="SUPABASE_SERVICE_ROLE_KEY")

    resend_api_key: SecretStr | None = Field(None, validation_alias="RESEND_API_KEY")
    twilio_account_sid: str | None = Field(None, validation_alias="TWILIO_ACCOUNT_SID")
    twilio_auth_token: SecretStr | None = Field(None, validation_alias="TWILIO_AUTH_TOKEN")

    namespace: Annotated[str, AfterValidator(_check_namespace)] = "fourlane"
    """The first word of every key in Redis."""
    service: Annotated[str, AfterValidator(check_service)] = "default"
    """The service of tasks that name none."""
    data_dir: Folder = Path(".fourlane")
    """Where the embedded server and SQLite keep their data."""

    processes: Annotated[int, _at_least(1, bound=1_000)] = 1
    """Worker processes under one supervisor."""
    slots: Annotated[int, _at_least(1, bound=10_000)] = 8
    """Plain functions that one process runs at once, each in a thread."""
    concurrency: Annotated[int, _at_least(1, bound=100_000)] = 1_000
    """Async jobs that one process runs at once."""
    start_wait_seconds: Seconds = 60
    """How long a worker that starts waits for Redis; 0: not at all."""
    grace_seconds: Seconds = 25
    """How long running jobs may go on after SIGTERM."""
    recycle_jobs: ZeroOrMore = 0
    """Replace a process after so many jobs; 0: never."""
    recycle_seconds: Seconds = 0
    """Replace a process at this age; 0: never."""
    recycle_rss_mb: ZeroOrMore = 0
    """Replace a process that holds more memory; 0: never."""
    probe_port: Annotated[int, _port()] = 0
    """Where the worker answers GET /live and /ready over HTTP; 0: nowhere."""
    probe_host: str | None = None
    """The address that it listens on; None: 127.0.0.1 in ``local``, else all of the machine's (``0.0.0.0``, ``::``)."""

    max_retries: ZeroOrMore = 5
    """Runs after the first one, before the job becomes a dead letter."""
    min_backoff_ms: Milliseconds = 1_000
    max_backoff_ms: Milliseconds = 3_600_000
    timeout_ms: Milliseconds = 600_000
    """A running job is interrupted after this."""
    hard_timeout_ms: Milliseconds | None = None
    """The process of a running job is killed after this; None: never."""
    crash_limit: Positive = 3
    """A job that took so many processes down becomes a dead letter."""
    result_ttl_ms: Annotated[int, _between(0, 315_360_000_000)] = 0
    """How long results are kept; 0: not at all."""
    max_body_bytes: Size = 1_048_576
    max_result_bytes: Size = 1_048_576
    """The size limit of a result that is kept."""
    dead_ttl_days: Annotated[int, _at_least(1, bound=3_650)] = 30
    dead_max: Positive = 100_000
    """Dead letters kept for a service; the oldest go first."""
    limits: Annotated[
        dict[Annotated[str, AfterValidator(_full_name)], QueueLimit], WrapValidator(_read_limits), NoDecode
    ] = Field(default_factory=dict)
    """Limits by the queue's full name; in the variable, a JSON object."""

    events_bucket: str = ""
    """The S3 bucket for events over the size limit; empty: they are refused."""
    events_max_bytes: Annotated[int, _between(1_024, 1_048_576)] = 1_048_576
    """The size limit of an event in SQS."""
    events_buffer: ZeroOrMore = 0
    """Events that a publisher keeps in the data folder while SQS cannot be reached; 0: that is an error."""
    events_receivers: Positive = 4
    """Threads that receive from one event's queue at most."""
    events_visibility_seconds: Annotated[int, _between(1, 43_200)] = 60
    """How long a received event is hidden; what a dead receiver held comes back after that."""

    maintenance: Annotated[dict[str, str], WrapValidator(_read_maintenance), NoDecode] = Field(default_factory=dict)
    """Housekeeping by name: another cron expression (UTC), or ``off``; in the variable, a JSON object."""
    database_pool_size: Annotated[int, _at_least(1, bound=10_000)] = 5
    """Connections to the database that one process may hold."""
    database_pool_timeout_seconds: Annotated[int, _at_least(1, bound=86_400)] = 10
    """How long to wait for one of them."""
    database_statement_timeout_ms: Annotated[int, _at_least(1, bound=2_147_483_647)] = 30_000
    """The database ends a statement after this."""
    database_transaction_pooler: Switch | None = None
    """Whether connections change between transactions; None: when the port is 6543, as Supabase's pooler has it."""
    relay: Switch | None = None
    """Whether a worker moves the outbox's jobs to Redis too; None: only that of ``fourlane dev`` does."""
    outbox_batch: Positive = 500
    """Rows that a relay moves at once."""
    outbox_keep_seconds: Seconds = 3_600
    """How long relayed rows are kept."""
    encryption_keys: SecretStr | None = None
    """Keys for personal data, newest first, each 32 bytes in base64, commas between them."""

    notification_templates: Folder = Path("templates")
    """The folder of the templates."""
    notification_user_limits: Annotated[
        dict[Annotated[str, AfterValidator(_channel)], UserLimit], WrapValidator(_read_user_limits), NoDecode
    ] = Field(default_factory=dict)
    """How many messages one user may get on a channel; in the variable, a JSON object."""
    notification_timeout_seconds: Annotated[int, _at_least(1, 59)] = 30
    """For one call to a provider."""
    # A digest may be open for 30 days.
    notification_keep_days: Annotated[int, _at_least(31, bound=3_650)] = 90
    """How long records of notifications are kept."""
    email_from: str | None = None
    """The sender of emails: ``Name <name@example.com>``, of a domain that the provider knows."""
    smtp_url: SecretStr | None = None
    """Send emails here and not by Resend: smtp://HOST:PORT or smtps://USER:PASSWORD@HOST."""
    sms_from: str | None = None
    """The sender of SMS: a number of ours, or the id of a messaging service (MG…)."""
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
    alert_email: str | None = None
    """Who gets alerts that are for information only."""
    unsubscribe_url: str | None = None
    """The address of the page for unsubscribing; emails get a link to it."""
    resend_webhook_secret: SecretStr | None = None
    """What Resend signs its reports with, whsec_…."""
    twilio_status_url: str | None = None
    """Where Twilio reports what became of an SMS: the public address of our endpoint."""
    resend_url: str = "https://api.resend.com"
    twilio_url: str = "https://api.twilio.com"
    pagerduty_url: str = "https://events.pagerduty.com"

    log_level: LogLevel = "INFO"
    log_jobs: Switch = False
    """Log a line when a job begins and when it ends."""

    ai: Annotated[AiSettings, WrapValidator(_read_ai), NoDecode] = Field(default_factory=AiSettings)
    """Models, limits, prices, budgets and addresses of AI providers; in the variable, a JSON object."""

    alerts: Switch = False
    """Once a minute, tell PagerDuty, Slack or email what `fourlane status` finds; for those without an Alertmanager."""
    metrics: Switch = False
    """Serve GET /metrics for Prometheus on the probe's port."""
    watch_streams: Switch = False
    """Count what waits in the event queues, for metrics, `fourlane status` and alerts; each look costs SQS requests."""
    otlp_endpoint: str | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where traces go over OTLP/HTTP, e.g. ``http://collector:4318``; None: nowhere."""
    otlp_metrics: Switch = False
    """Push metrics to that collector too."""
    otlp_metrics_ms: Annotated[int, _at_least(1, bound=86_400_000)] = Field(
        60_000, validation_alias="OTEL_METRIC_EXPORT_INTERVAL"
    )
    """Milliseconds between two pushes."""
    trace_percent: Annotated[int, _at_least(0, 100)] = 10
    """How many traces to keep of those with no error and under 5 s; the others are all kept."""
    sentry_dsn: SecretStr | None = Field(None, validation_alias="SENTRY_DSN")
    """Where errors of jobs are reported; None: nowhere."""
    sentry_every_attempt: Switch = False
    """Report each failed run, not only the one that made the job a dead letter."""
    sentry_percent: Annotated[int, _at_least(0, 100)] = 100
    """How many of the reports to send."""
    sentry_traces_percent: Annotated[int, _at_least(0, 100)] = 0
    """How many transactions Sentry gets for its performance pages; 0: none."""
    sentry_release: str | None = Field(None, validation_alias="SENTRY_RELEASE")
    """The version that reports name; None: what Sentry's client finds, e.g. git's commit."""

    webhook_allow_private: Switch = False
    """Deliver webhooks to private and loopback addresses too."""
    webhook_timeout_seconds: Annotated[int, _at_least(1, 59)] = 30
    """For one attempt; the job itself is interrupted after 60."""

    stripe_webhook_secrets: SecretStr | None = None
    """Signing secrets of our endpoint at Stripe, ``whsec_…``, with commas between them while one is being replaced."""
    paypal_webhook_id: str | None = None
    """The id of our webhook at PayPal; a part of what PayPal signs."""
    paypal_webhook_way: Annotated[Literal["offline", "postback"], _or_say("no way; use offline or postback")] = (
        "offline"
    )
    """Check PayPal's signature here, or ask PayPal."""
    supabase_webhook_secrets: SecretStr | None = None
    """What database webhooks carry in x-webhook-secret; with commas between several."""
    supabase_hook_secrets: SecretStr | None = None
    """Secrets of auth hooks, ``v1,whsec_…``; with | between several, as Supabase writes them."""
    webhook_allow_from: Annotated[dict[str, list[str]], WrapValidator(_read_networks), NoDecode] = Field(
        default_factory=dict
    )
    """Networks that a provider may call from, as a JSON object: {"stripe": ["3.18.12.63/32"]}."""
    webhook_rate: ZeroOrMore = 3_000
    """How many webhooks a minute one address may send to one provider's path, in each process; 0: no bound."""
    webhook_proxies: ZeroOrMore = 0
    """How many of our proxies add to X-Forwarded-For before a webhook arrives; 0: the header is not believed."""

    paypal_sandbox: Switch = False
    """Use PayPal's sandbox."""
    stripe_url: str | None = None
    """Another address for Stripe's API, e.g. of a stand-in."""
    paypal_url: str | None = None
    """Another address for PayPal's API."""
    channel_url: SecretStr | None = None
    """Where summaries and alerts are posted as {"text": …}, e.g. a Slack webhook."""
    webhook_disable_days: Positive = 5
    """An endpoint that took nothing for so long, though it was tried, is disabled."""

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url is None:
            if info.data.get("environment") == "production":
                raise ValueError("is not set, and production needs it; set it to rediss://…")
        elif not url.get_secret_value().startswith(_REDIS_SCHEMES):
            # The value is a secret even when it is malformed.
            raise ValueError("has no scheme that Redis knows; begin it with redis://, rediss:// or unix://")
        return url

    def describe(self) -> list[tuple[str, str, str]]:
        """Every variable with its value, fit to be shown, and its source.

        A source is ``default``, ``environment``, the file's name, or ``override`` for what the caller gave.
        """
        return [
            (_variable(field), _shown(field, getattr(self, field)), self._sources.get(field, "default"))
            for field in type(self).model_fields
        ]


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; overrides, by field name, win over the environment and the file.

    Raises SettingsError with a line for every fault.
    """
    process = _variables(os.environ)
    environment = _canonical(overrides.get("environment", process.get("FOURLANE_ENVIRONMENT") or "local"))
    is_one = environment in get_args(_Environment)  # what is none is a fault, and its name may fit no file
    file = from_start(Path(f".env.{environment if is_one else 'local'}"))
    filed = _read_file(file) if is_one else {}

    faults = _unfit(filed | process) + _unknown(overrides, Settings.model_fields)
    # Obeying the file would belie its name, ignoring it would run in an environment that nobody meant.
    if _canonical(filed.get("FOURLANE_ENVIRONMENT") or environment) != environment:
        faults.append(f"FOURLANE_ENVIRONMENT: {file.name} cannot set it; set it in the process environment")
    known = {field: value for field, value in overrides.items() if field in Settings.model_fields}
    # By alias where there is one: until pydantic-settings 2.11 the environment wins over a bare field name.
    given = {_alias(field) or field: value for field, value in known.items()}
    try:
        settings = Settings(**given | {"environment": environment, "_env_file": file if is_one else None})
    except ValidationError as error:
        faults += [_fault(detail) for detail in error.errors(include_url=False)]
    # Outside the except clause, so that no context carries the values that were refused.
    if faults:
        raise SettingsError("\n".join(faults))

    places = dict.fromkeys(filed, file.name) | dict.fromkeys(process, "environment")
    settings._sources = {
        field: "override" if field in overrides else places.get(_variable(field), "default")
        for field in Settings.model_fields
    }
    return settings


def _read_file(file: Path) -> dict[str, str | None]:
    try:
        return _variables(dotenv_values(file))
    except OSError as error:
        fault = f"{file}: cannot be read ({error.strerror}); let this user read it, or remove it"
    except UnicodeDecodeError:
        fault = f"{file}: is not UTF-8 text; save it as UTF-8"
    raise SettingsError(fault)


def _variables(given: Mapping[str, str | None]) -> dict[str, str | None]:
    """What is given, by upper-case name. A platform variable that is empty counts as absent."""
    named = {name.upper(): value for name, value in given.items()}
    return {name: value for name, value in named.items() if value or name.startswith(_PREFIX)}


def _variable(field: str) -> str:
    return _alias(field) or _PREFIX + field.upper()


def _alias(field: str) -> str | None:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else None


def _unfit(variables: Mapping[str, str | None]) -> list[str]:
    """Faults that the variables show before their values are read."""
    known = {_variable(field) for field in Settings.model_fields}
    own = {
        name: value
        for name, value in variables.items()
        if name.startswith(_PREFIX) and (name in known or not _is_service_link(name, value or ""))
    }
    empty = [name for name, value in own.items() if not value and name in known]
    return _unknown(own, known) + [f"{name}: is empty; give it a value or remove it" for name in empty]


def _is_service_link(name: str, value: str) -> bool:
    return any(named.fullmatch(name) and valued.fullmatch(value) for named, valued in _SERVICE_LINKS)


def _unknown(names: Iterable[str], known: Collection[str]) -> list[str]:
    # Compared without the prefix, which would make all names alike and hide FOURLANE_REDIS_URL's meaning.
    bare = {name.lower().removeprefix(_PREFIX.lower()): name for name in known}
    faults = []
    for name in names:
        if name not in known:
            [closest] = get_close_matches(name.lower().removeprefix(_PREFIX.lower()), bare, n=1, cutoff=0)
            faults.append(f"{name}: there is no such setting; did you mean {bare[closest]}?")
    return faults


def _fault(detail: ErrorDetails) -> str:
    field, *inner = (str(part) for part in detail["loc"] if part != "[key]")
    match detail["type"]:
        case "value_error":
            text = str(detail["ctx"]["error"])
        case "model_type":
            text = 'is not an object; write {"rate": 10}'
        case "extra_forbidden":
            text = f"is not known; use {', '.join(QueueLimit.model_fields)}"
        case _:
            text = detail["msg"]
    variable = _variable(field) if field in Settings.model_fields else field
    return ": ".join([variable, *inner, text])


def _shown(field: str, value: Any) -> str:
    match value:
        case None:
            return "not set"
        case SecretStr():
            hidden = "set (hidden)"
            return _without_credentials(value.get_secret_value()) or hidden if field in _URLS else hidden
        case bool():
            return str(value).lower()
        case AiSettings():
            return value.model_dump_json(exclude_defaults=True)
        case dict():
            return json.dumps(value, default=lambda part: part.model_dump(exclude_defaults=True))
        case _:
            return str(value)


def _without_credentials(url: str) -> str | None:
    """Scheme, host, port and database of a URL; None where they cannot be told from a password."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises ValueError when it is none)
    except ValueError:
        return None
    # An unescaped / ? or # in a password ends the host too early, and then an @ is left behind it.
    if not url.startswith(f"{parts.scheme}://") or "@" in parts.path + parts.query + parts.fragment:
        return None
    db = parse_qs(parts.query).get("db")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{address}?db={db[0]}" if db else address
