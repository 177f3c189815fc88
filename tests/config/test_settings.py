"""All settings: their defaults, and that a command shows each of them and tells the fault of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import SecretStr, ValidationError

from fourlane.cli import main
from fourlane.config import Settings, load_settings
from fourlane.config.groups.ai import AiOptions
from fourlane.config.settings import variables
from fourlane.config.values import Folder
from tests.config.asked import PUBLIC, SECRETS


def test_defaults() -> None:
    assert load_settings().model_dump() == dict.fromkeys(map(str.lower, SECRETS | PUBLIC)) | {
        "ai": AiOptions().model_dump(),
        "environment": "local",
        "namespace": "fourlane",
        "service": "default",
        "data_dir": Path(".fourlane"),
        "processes": 1,
        "slots": 8,
        "concurrency": 1000,
        "start_wait_seconds": 60,
        "grace_seconds": 25,
        "max_retries": 5,
        "min_backoff_ms": 1000,
        "max_backoff_ms": 3_600_000,
        "timeout_ms": 600_000,
        "hard_timeout_ms": None,
        "result_ttl_ms": 0,
        "max_body_bytes": 1_048_576,
        "outbox_days_ahead": 366,
        "max_result_bytes": 1_048_576,
        "dead_ttl_days": 30,
        "dead_max": 100_000,
        "crash_limit": 3,
        "events_bucket": "",
        "events_max_bytes": 1_048_576,
        "events_buffer": 0,
        "events_receivers": 4,
        "events_visibility_seconds": 60,
        "storage": None,
        "storage_keys": None,
        "storage_days": 30,
        "files_dir": None,
        "files_allow_private": False,
        "database_pool_size": 5,
        "database_pool_timeout_seconds": 10,
        "database_statement_timeout_ms": 30_000,
        "database_transaction_pooler": None,
        "encryption_keys": None,
        "relay": None,
        "outbox_batch": 500,
        "outbox_places": 0,
        "outbox_keep_seconds": 3600,
        "resend_api_key": None,
        "twilio_account_sid": None,
        "twilio_auth_token": None,
        "notification_templates": Path("templates"),
        "notification_user_limits": {},
        "notification_timeout_seconds": 30,
        "notification_keep_days": 90,
        "email_from": None,
        "smtp_url": None,
        "smtp_allow_plain": False,
        "sms_from": None,
        "vapid_private_key": None,
        "vapid_contact": None,
        "push_allow_private": False,
        "slack_webhook_url": None,
        "pagerduty_routing_key": None,
        "alert_email": None,
        "unsubscribe_url": None,
        "resend_webhook_secret": None,
        "twilio_status_url": None,
        "resend_url": "https://api.resend.com",
        "resend_per_second": 2,
        "twilio_url": "https://api.twilio.com",
        "pagerduty_url": "https://events.pagerduty.com",
        "log_level": "INFO",
        "log_jobs": False,
        "alerts": False,
        "metrics": False,
        "otlp_metrics": False,
        "otlp_metrics_ms": 60_000,
        "watch_streams": False,
        "otlp_endpoint": None,
        "trace_percent": 10,
        "sentry_dsn": None,
        "sentry_every_attempt": False,
        "sentry_percent": 100,
        "sentry_traces_percent": 0,
        "sentry_release": None,
        "recycle_jobs": 0,
        "recycle_seconds": 0,
        "recycle_rss_mb": 0,
        "probe_port": 0,
        "probe_host": None,
        "webhook_allow_private": False,
        "webhook_allow_http": False,
        "webhook_timeout_seconds": 30,
        "webhook_disable_days": 5,
        "webhook_tenant_concurrency": 100,
        "webhook_receiver_concurrency": 20,
        "webhook_slow_seconds": 10,
        "webhook_allow_from": {},
        "webhook_proxies": 0,
        "webhook_rate": 3_000,
        "stripe_webhook_secrets": None,
        "paypal_webhook_id": None,
        "paypal_webhook_way": "offline",
        "paypal_sandbox": False,
        "supabase_webhook_secrets": None,
        "supabase_hook_secrets": None,
        "stripe_url": None,
        "stripe_accounts": "own",
        "stripe_order_key": "",
        "paypal_url": None,
        "channel_url": None,
        "limits": {},
        "maintenance": {},
    }


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().slots = 9


def test_importing_the_package_imports_no_pydantic() -> None:
    program = "import sys, fourlane.config; print([m for m in sys.modules if m.startswith('pydantic')])"
    root = Path(__file__).parents[2]

    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_importing_the_settings_reads_nothing() -> None:
    program = "import fourlane.config.settings as settings; print(settings.Settings.__name__)"
    root = Path(__file__).parents[2]

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env=os.environ | {"FOURLANE_SLOTS": "eight", "FOURLANE_TYPO": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "Settings\n"


KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
# A variable, a value that is not the default, and how it is shown where that is otherwise; None: hidden.
EVERY: list[tuple[str, str] | tuple[str, str, str | None]] = [
    ("FOURLANE_ENVIRONMENT", "preview", "staging"),
    ("FOURLANE_NAMESPACE", "shop"),
    ("FOURLANE_SERVICE", "images"),
    ("FOURLANE_DATA_DIR", "/data"),
    ("REDIS_URL", "rediss://u:hush@redis:6380/1", "rediss://redis:6380/1"),
    ("FOURLANE_MAX_RETRIES", "10"),
    ("FOURLANE_MIN_BACKOFF_MS", "11"),
    ("FOURLANE_MAX_BACKOFF_MS", "12"),
    ("FOURLANE_TIMEOUT_MS", "13"),
    ("FOURLANE_HARD_TIMEOUT_MS", "14"),
    ("FOURLANE_CRASH_LIMIT", "15"),
    ("FOURLANE_RESULT_TTL_MS", "16"),
    ("FOURLANE_MAX_BODY_BYTES", "2000"),
    ("FOURLANE_OUTBOX_DAYS_AHEAD", "27"),
    ("FOURLANE_MAX_RESULT_BYTES", "2001"),
    ("FOURLANE_DEAD_TTL_DAYS", "17"),
    ("FOURLANE_DEAD_MAX", "18"),
    ("FOURLANE_LIMITS", '{"jobs.high.mail": {"rate": 5}}', '{"staging.jobs.high.mail": {"rate": 5}}'),
    ("FOURLANE_PROCESSES", "2"),
    ("FOURLANE_SLOTS", "3"),
    ("FOURLANE_CONCURRENCY", "4"),
    ("FOURLANE_START_WAIT_SECONDS", "5"),
    ("FOURLANE_GRACE_SECONDS", "6"),
    ("FOURLANE_RECYCLE_JOBS", "7"),
    ("FOURLANE_RECYCLE_SECONDS", "8"),
    ("FOURLANE_RECYCLE_RSS_MB", "9"),
    ("FOURLANE_PROBE_PORT", "8080"),
    ("FOURLANE_PROBE_HOST", "10.0.0.1"),
    ("FOURLANE_ENCRYPTION_KEYS", KEY, None),
    ("DATABASE_URL", "postgresql://u:hush@db:5432/jobs", "postgresql://db:5432/jobs"),
    ("FOURLANE_DATABASE_POOL_SIZE", "22"),
    ("FOURLANE_DATABASE_POOL_TIMEOUT_SECONDS", "23"),
    ("FOURLANE_DATABASE_STATEMENT_TIMEOUT_MS", "24"),
    ("FOURLANE_DATABASE_TRANSACTION_POOLER", "true"),
    ("NEXT_PUBLIC_SUPABASE_URL", "https://x.supabase.co"),
    ("SUPABASE_SERVICE_ROLE_KEY", "hush", None),
    ("FOURLANE_RELAY", "true"),
    ("FOURLANE_OUTBOX_BATCH", "25"),
    ("FOURLANE_OUTBOX_PLACES", "28"),
    ("FOURLANE_OUTBOX_KEEP_SECONDS", "26"),
    ("FOURLANE_EVENTS_BUCKET", "large"),
    ("FOURLANE_EVENTS_MAX_BYTES", "2002"),
    ("FOURLANE_EVENTS_BUFFER", "19"),
    ("FOURLANE_EVENTS_RECEIVERS", "20"),
    ("FOURLANE_EVENTS_VISIBILITY_SECONDS", "21"),
    ("FOURLANE_WATCH_STREAMS", "true"),
    ("FOURLANE_STORAGE", "s3://files/fourlane?endpoint=https://s3.example.com"),
    ("FOURLANE_STORAGE_KEYS", "key:hush", None),
    ("FOURLANE_STORAGE_DAYS", "36"),
    ("FOURLANE_FILES_DIR", "/files"),
    ("FOURLANE_FILES_ALLOW_PRIVATE", "true"),
    ("OPENAI_API_KEY", "hush", None),
    ("ANTHROPIC_API_KEY", "hush", None),
    ("GOOGLE_AI_API_KEY", "hush", None),
    ("PERPLEXITY_API_KEY", "hush", None),
    ("OPENROUTER_API_KEY", "hush", None),
    ("FOURLANE_AI", '{"budgets_usd": {"acme": 10.0}}', '{"budgets_usd":{"acme":10.0}}'),
    ("STRIPE_SECRET_KEY", "hush", None),
    ("STRIPE_PUBLISHABLE_KEY", "pk_1"),
    ("FOURLANE_STRIPE_URL", "https://stripe.example.com"),
    ("FOURLANE_STRIPE_ACCOUNTS", "own,acct_1"),
    ("FOURLANE_STRIPE_ORDER_KEY", "order_id"),
    ("PAYPAL_CLIENT_ID", "client"),
    ("PAYPAL_CLIENT_SECRET", "hush", None),
    ("FOURLANE_PAYPAL_SANDBOX", "true"),
    ("FOURLANE_PAYPAL_URL", "https://paypal.example.com"),
    ("FOURLANE_STRIPE_WEBHOOK_SECRETS", "hush", None),
    ("FOURLANE_PAYPAL_WEBHOOK_ID", "WH-1", None),
    ("FOURLANE_PAYPAL_WEBHOOK_WAY", "postback"),
    ("FOURLANE_SUPABASE_WEBHOOK_SECRETS", "hush", None),
    ("FOURLANE_SUPABASE_HOOK_SECRETS", "hush", None),
    ("FOURLANE_WEBHOOK_ALLOW_FROM", '{"stripe": ["3.18.12.63/32"]}'),
    ("FOURLANE_WEBHOOK_RATE", "33"),
    ("FOURLANE_WEBHOOK_PROXIES", "34"),
    ("FOURLANE_WEBHOOK_ALLOW_PRIVATE", "true"),
    ("FOURLANE_WEBHOOK_ALLOW_HTTP", "true"),
    ("FOURLANE_WEBHOOK_TIMEOUT_SECONDS", "31"),
    ("FOURLANE_WEBHOOK_DISABLE_DAYS", "35"),
    ("FOURLANE_WEBHOOK_TENANT_CONCURRENCY", "36"),
    ("FOURLANE_WEBHOOK_RECEIVER_CONCURRENCY", "37"),
    ("FOURLANE_WEBHOOK_SLOW_SECONDS", "38"),
    ("FOURLANE_NOTIFICATION_TEMPLATES", "/templates"),
    ("FOURLANE_NOTIFICATION_USER_LIMITS", '{"sms": {"rate": 5}}'),
    ("FOURLANE_NOTIFICATION_TIMEOUT_SECONDS", "27"),
    ("FOURLANE_NOTIFICATION_KEEP_DAYS", "32"),
    ("FOURLANE_UNSUBSCRIBE_URL", "https://example.com/out"),
    ("FOURLANE_EMAIL_FROM", "Shop <shop@example.com>"),
    ("FOURLANE_SMTP_URL", "smtp://u:hush@mail", None),
    ("FOURLANE_SMTP_ALLOW_PLAIN", "true"),
    ("RESEND_API_KEY", "hush", None),
    ("FOURLANE_RESEND_WEBHOOK_SECRET", "hush", None),
    ("FOURLANE_RESEND_URL", "https://resend.example.com"),
    ("FOURLANE_RESEND_PER_SECOND", "37"),
    ("FOURLANE_SMS_FROM", "MG1"),
    ("TWILIO_ACCOUNT_SID", "AC1"),
    ("TWILIO_AUTH_TOKEN", "hush", None),
    ("FOURLANE_TWILIO_STATUS_URL", "https://example.com/twilio"),
    ("FOURLANE_TWILIO_URL", "https://twilio.example.com"),
    ("FOURLANE_VAPID_PRIVATE_KEY", "hush", None),
    ("FOURLANE_VAPID_CONTACT", "mailto:ops@example.com"),
    ("FOURLANE_PUSH_ALLOW_PRIVATE", "true"),
    ("FOURLANE_SLACK_WEBHOOK_URL", "https://hooks.example.com/hush", None),
    ("FOURLANE_PAGERDUTY_ROUTING_KEY", "hush", None),
    ("FOURLANE_PAGERDUTY_URL", "https://pagerduty.example.com"),
    ("FOURLANE_ALERT_EMAIL", "ops@example.com"),
    ("FOURLANE_MAINTENANCE", '{"doctor": "off"}'),
    ("FOURLANE_ALERTS", "true"),
    ("FOURLANE_CHANNEL_URL", "https://hooks.example.com/hush", None),
    ("FOURLANE_LOG_LEVEL", "DEBUG"),
    ("FOURLANE_LOG_JOBS", "true"),
    ("FOURLANE_METRICS", "true"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
    ("FOURLANE_OTLP_METRICS", "true"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
    ("FOURLANE_TRACE_PERCENT", "28"),
    ("SENTRY_DSN", "https://hush@sentry.example.com/1", None),
    ("FOURLANE_SENTRY_EVERY_ATTEMPT", "true"),
    ("FOURLANE_SENTRY_PERCENT", "29"),
    ("FOURLANE_SENTRY_TRACES_PERCENT", "30"),
    ("SENTRY_RELEASE", "1.2.3"),
]


def test_the_command_shows_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value, *_ in EVERY:
        monkeypatch.setenv(variable, value)
    wanted = {variable: shown[0] if shown else value for variable, value, *shown in EVERY}
    told = CliRunner().invoke(main, ["config", "--json"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    assert [(one["name"], one["value"], one["source"]) for one in json.loads(told.stdout)["settings"]] == [
        (variable, "set (hidden)" if value is None else value, "environment") for variable, value in wanted.items()
    ]
    said = CliRunner().invoke(main, ["config"], catch_exceptions=False).stdout
    assert len(said.splitlines()) == len(EVERY)
    assert "hush" not in said + told.stdout
    assert KEY not in said + told.stdout


def _is_free(field: str) -> bool:
    """Whether it takes any text."""
    checked = ("namespace", "service", "redis_url")
    return field not in checked and Settings.model_fields[field].annotation in (
        str,
        str | None,
        SecretStr | None,
        Path,
        Folder | None,
    )


REFUSING = {variable for field, variable in variables().items() if not _is_free(field)}


def test_most_settings_refuse_something() -> None:
    assert len(REFUSING) > 50


@pytest.mark.parametrize("value", ["{hush hush", '{"hush": {"hush": []}}'])
def test_the_command_tells_each_fault_by_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for variable in REFUSING:
        monkeypatch.setenv(variable, value)
    told = CliRunner().invoke(main, ["config"], catch_exceptions=False)
    assert (told.exit_code, told.stdout) == (1, "")
    assert {line.split(": ")[1] for line in told.stderr.splitlines()} == REFUSING
    assert not [line for line in told.stderr.splitlines() if "REDIS_URL" in line and "hush" in line]
