"""Settings: where each comes from, what is refused and how it is said, and that secrets stay hidden."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import SecretStr, ValidationError

from fourlane.cli import main
from fourlane.config import Settings, load_settings
from fourlane.config.groups.ai import AiOptions
from fourlane.config.groups.jobs import QueueLimit
from fourlane.config.settings import variables
from fourlane.errors import SettingsError

SECRETS = {
    "REDIS_URL": "rediss://user:hush@redis.example:6380/2",
    "DATABASE_URL": "postgresql://user:hush@db.example:5432/fourlane?password=hush",
    "STRIPE_SECRET_KEY": "sk_hush",
    "PAYPAL_CLIENT_SECRET": "paypal_hush",
    "OPENAI_API_KEY": "openai_hush",
    "ANTHROPIC_API_KEY": "anthropic_hush",
    "GOOGLE_AI_API_KEY": "google://hush",
    "PERPLEXITY_API_KEY": "perplexity_hush",
    "OPENROUTER_API_KEY": "openrouter_hush",
    "SUPABASE_SERVICE_ROLE_KEY": "role_hush",
}
PUBLIC = {
    "STRIPE_PUBLISHABLE_KEY": "pk_shown",
    "PAYPAL_CLIENT_ID": "paypal_shown",
    "NEXT_PUBLIC_SUPABASE_URL": "https://shown.supabase.co",
}


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, and none of our variables in the process."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("FOURLANE_") or name.upper() in SECRETS | PUBLIC:
            monkeypatch.delenv(name)


def write(environment: str, *lines: str) -> None:
    Path(f".env.{environment}").write_text("\n".join(lines))


def faults(**overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    return str(caught.value).splitlines()


def described(settings: Settings) -> dict[str, tuple[str, str]]:
    return {variable: (shown, source) for variable, shown, source in settings.describe()}


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
        "max_result_bytes": 1_048_576,
        "dead_ttl_days": 30,
        "dead_max": 100_000,
        "crash_limit": 3,
        "events_bucket": "",
        "events_max_bytes": 1_048_576,
        "events_buffer": 0,
        "events_receivers": 4,
        "events_visibility_seconds": 60,
        "database_pool_size": 5,
        "database_pool_timeout_seconds": 10,
        "database_statement_timeout_ms": 30_000,
        "database_transaction_pooler": None,
        "encryption_keys": None,
        "relay": None,
        "outbox_batch": 500,
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
        "webhook_timeout_seconds": 30,
        "webhook_disable_days": 5,
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
        "paypal_url": None,
        "channel_url": None,
        "limits": {},
        "maintenance": {},
    }


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("FOURLANE_SLOTS", "16", "slots", 16),
        ("FOURLANE_GRACE_SECONDS", "0", "grace_seconds", 0),  # stop at once
        ("FOURLANE_HARD_TIMEOUT_MS", "5000", "hard_timeout_ms", 5000),
        ("FOURLANE_LOG_JOBS", "true", "log_jobs", True),
        ("FOURLANE_LOG_LEVEL", "WARN", "log_level", "WARN"),
        ("FOURLANE_DATA_DIR", "/var/lib/fourlane", "data_dir", Path("/var/lib/fourlane")),
        ("FOURLANE_SERVICE", "image-processing", "service", "image-processing"),
        ("FOURLANE_ENVIRONMENT", "staging", "environment", "staging"),
        ("FOURLANE_ENVIRONMENT", "preview", "environment", "staging"),  # the platform's other word
        ("STRIPE_PUBLISHABLE_KEY", "pk_1", "stripe_publishable_key", "pk_1"),
        ("STRIPE_PUBLISHABLE_KEY", "", "stripe_publishable_key", None),  # empty is absent
    ],
)
def test_a_variable_becomes_a_typed_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)

    assert getattr(load_settings(), field) == expected


@pytest.mark.parametrize("url", ["redis://h", "rediss://:p@h:1/2", "unix:///run/redis.sock?db=1"])
def test_every_scheme_of_redis_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    redis_url = load_settings().redis_url

    assert redis_url is not None
    assert redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("FOURLANE_SLOTS", "eight", "FOURLANE_SLOTS: 'eight' is not a whole number; use 1 or more"),
        ("FOURLANE_PROBE_PORT", "http", "FOURLANE_PROBE_PORT: 'http' is no port; use 1 to 65535, or 0 for none"),
        ("FOURLANE_PROBE_PORT", "70000", "FOURLANE_PROBE_PORT: '70000' is no port; use 1 to 65535, or 0 for none"),
        ("FOURLANE_SLOTS", "0", "FOURLANE_SLOTS: '0' is too small; use 1 or more"),
        ("FOURLANE_MAX_RETRIES", "-1", "FOURLANE_MAX_RETRIES: '-1' is too small; use 0 or more"),
        *(
            (variable, value, f"{variable}: {value!r} does not fit; use a whole number from 1024 to 536870912")
            for variable in ("FOURLANE_MAX_RESULT_BYTES", "FOURLANE_MAX_BODY_BYTES")
            for value in ("0", "-1", "536870913")
        ),
        (  # longer than the job's own limit
            "FOURLANE_WEBHOOK_TIMEOUT_SECONDS",
            "60",
            "FOURLANE_WEBHOOK_TIMEOUT_SECONDS: '60' is too large; use 1 to 59",
        ),
        (
            "FOURLANE_WEBHOOK_TIMEOUT_SECONDS",
            "0",
            "FOURLANE_WEBHOOK_TIMEOUT_SECONDS: '0' is too small; use 1 to 59",
        ),
        ("FOURLANE_SLOTS", "", "FOURLANE_SLOTS: is empty; give it a value or remove it"),
        ("FOURLANE_ENVIRONMENT", "", "FOURLANE_ENVIRONMENT: is empty; give it a value or remove it"),
        (
            "FOURLANE_ENVIRONMENT",
            "prod",
            "FOURLANE_ENVIRONMENT: 'prod' is no environment; use local, staging or production",
        ),
        ("FOURLANE_LOG_JOBS", "maybe", "FOURLANE_LOG_JOBS: 'maybe' is not a switch; use true or false"),
        (
            "FOURLANE_LOG_LEVEL",
            "LOUD",
            "FOURLANE_LOG_LEVEL: 'LOUD' is no log level; use DEBUG, INFO, WARN or ERROR",
        ),
        (
            "FOURLANE_NAMESPACE",
            "{a}",  # braces would break the hash tag of the keys
            "FOURLANE_NAMESPACE: '{a}' is no namespace; use letters, digits, - and _, at most 63",
        ),
        (
            "FOURLANE_SERVICE",
            "a.b",
            "FOURLANE_SERVICE: 'a.b' is no service name: letters, digits, - and _, at most 63 characters, "
            "the first a letter or _",
        ),
        ("FOURLANE_SLOT", "3", "FOURLANE_SLOT: there is no such setting; did you mean FOURLANE_SLOTS?"),
        # A platform name with our prefix: the closest one has none.
        (
            "FOURLANE_REDIS_URL",
            "redis://h",
            "FOURLANE_REDIS_URL: there is no such setting; did you mean REDIS_URL?",
        ),
        (
            "REDIS_URL",
            "http://user:hush@h",
            "REDIS_URL: has no scheme that Redis knows; begin it with redis://, rediss:// or unix://",
        ),
        (
            "FOURLANE_ENVIRONMENT",
            "production",  # with no REDIS_URL
            "REDIS_URL: is not set, and production needs it; set it to rediss://…",
        ),
    ],
)
def test_a_fault_is_a_line_with_the_variable_and_the_fix(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert faults() == [line]


@pytest.mark.parametrize("name", ["FOURLANE", "FOURLANE_WORKER", "FOURLANE_SERVICE"])
@pytest.mark.parametrize(("address", "shown"), [("10.0.0.11", "10.0.0.11"), ("fd00::b", "[fd00::b]")])
def test_what_kubernetes_sets_for_a_service_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, address: str, shown: str
) -> None:
    links = {
        "SERVICE_HOST": address,
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT": f"tcp://{shown}:80",
        "PORT_80_TCP": f"tcp://{shown}:80",
        "PORT_80_TCP_PROTO": "tcp",
        "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_ADDR": address,
    }
    for end, value in links.items():
        monkeypatch.setenv(f"{name}_{end}", value)

    assert load_settings().service == "default"


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("FOURLANE_PORT", "8080", "FOURLANE_PORT: there is no such setting; did you mean FOURLANE_PROBE_PORT?"),
        (
            "FOURLANE_SERVICE_HOST",
            "a host",
            "FOURLANE_SERVICE_HOST: there is no such setting; did you mean FOURLANE_SERVICE?",
        ),
        (
            "FOURLANE_PROBE_PORT",
            "tcp://10.0.0.11:80",
            "FOURLANE_PROBE_PORT: 'tcp://10.0.0.11:80' is what Kubernetes sets for a Service of this name; "
            "set enableServiceLinks: false, or a port",
        ),
    ],
)
def test_what_only_looks_like_kubernetes_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert faults() == [line]


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_SLOTS", "eight")
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "production")
    write("production", "FOURLANE_PROCESES=2", "FOURLANE_CRASH_LIMIT=0")

    assert [line.partition(":")[0] for line in faults(slotz=1)] == [
        "FOURLANE_PROCESES",
        "slotz",
        "REDIS_URL",
        "FOURLANE_CRASH_LIMIT",
        "FOURLANE_SLOTS",
    ]


def test_production_with_redis_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "production")
    write("production", "REDIS_URL=rediss://h")

    assert load_settings().environment == "production"


def test_override_wins_over_environment_over_file_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        "local",
        "FOURLANE_SLOTS=2",
        "FOURLANE_PROCESSES=2",
        "FOURLANE_CRASH_LIMIT=2",
        "REDIS_URL=redis://file",
    )
    for name in ("FOURLANE_SLOTS", "FOURLANE_PROCESSES"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("REDIS_URL", "redis://process")

    settings = load_settings(slots=4, redis_url="redis://given")

    shown = described(settings)
    assert shown["FOURLANE_SLOTS"] == ("4", "override")
    assert shown["FOURLANE_PROCESSES"] == ("3", "environment")
    assert shown["FOURLANE_CRASH_LIMIT"] == ("2", ".env.local")
    assert shown["FOURLANE_MAX_RETRIES"] == ("5", "default")
    assert shown["REDIS_URL"] == ("redis://given", "override")


def test_an_empty_platform_variable_leaves_the_file_to_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    write("local", "REDIS_URL=redis://file")
    monkeypatch.setenv("REDIS_URL", "")

    assert described(load_settings())["REDIS_URL"] == ("redis://file", ".env.local")


def test_limits_of_the_environment_replace_those_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("local", """FOURLANE_LIMITS='{"jobs.high.a": {"rate": 1}}'""")
    monkeypatch.setenv("FOURLANE_LIMITS", '{"jobs.high.b": {"rate": 2}}')

    assert load_settings().limits == {"local.jobs.high.b": QueueLimit(rate=2)}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [("local", 1), ("staging", 2), ("preview", 2), ("production", 3)],
)
def test_the_environment_chooses_the_file(monkeypatch: pytest.MonkeyPatch, environment: str, expected: int) -> None:
    write("local", "FOURLANE_SLOTS=1")
    write("staging", "FOURLANE_SLOTS=2")
    write("production", "FOURLANE_SLOTS=3", "REDIS_URL=redis://h")

    assert load_settings(environment=environment).slots == expected
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", environment)
    assert load_settings().slots == expected


def test_a_file_cannot_choose_the_environment() -> None:
    write("local", "FOURLANE_ENVIRONMENT=production")

    assert faults() == ["FOURLANE_ENVIRONMENT: .env.local cannot set it; set it in the process environment"]


def test_a_file_may_repeat_its_environment() -> None:
    write("staging", "FOURLANE_ENVIRONMENT=preview")

    assert load_settings(environment="staging").environment == "staging"


def test_a_file_may_hold_names_of_others() -> None:
    write("local", "NEXT_PUBLIC_SITE=x", "SLOTS=9", "FOURLANE_SLOTS=2")

    assert load_settings().slots == 2


def test_a_file_that_is_not_text_is_a_fault() -> None:
    Path(".env.local").write_bytes(b"STRIPE_SECRET_KEY=\xff")

    assert faults() == [".env.local: is not UTF-8 text; save it as UTF-8"]


def test_limits_are_typed_and_carry_full_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "staging")
    monkeypatch.setenv(
        "FOURLANE_LIMITS",
        json.dumps(
            {
                "jobs.high.images": {"rate": 10, "burst": 20},
                "staging.jobs.low.reports": {"rate": 5, "per_ms": 60_000, "concurrency": 2},
                "emails": {"concurrency": 3},  # as dramatiq programs name a queue
            }
        ),
    )

    assert load_settings().limits == {
        "staging.jobs.high.images": QueueLimit(rate=10, per_ms=1000, burst=20, concurrency=None),
        "staging.jobs.low.reports": QueueLimit(rate=5, per_ms=60_000, burst=None, concurrency=2),
        "staging.jobs.normal.emails": QueueLimit(concurrency=3),
    }


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        (
            "{",
            "is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1); "
            'write {"jobs.high.SERVICE": {"rate": 10, "per_ms": 1000}}',
        ),
        ("[]", 'is not a JSON object; write {"jobs.high.SERVICE": {"rate": 10, "per_ms": 1000}}'),
        ('{"jobs.high.a": 5}', 'jobs.high.a: is not an object; write {"rate": 10}'),
        ('{"jobs.high.a": {"rate": "x"}}', "jobs.high.a: rate: 'x' is not a whole number; use 1 or more"),
        ('{"jobs.high.a": {"rate": 0}}', "jobs.high.a: rate: 0 is too small; use 1 or more"),
        (
            '{"jobs.high.a": {"rate": 1, "bursts": 2}}',
            "jobs.high.a: bursts: is not known; use rate, per_ms, burst, concurrency",
        ),
        ('{"jobs.high.a": {}}', "jobs.high.a: has no rate; give one, or a concurrency alone"),
        (
            '{"jobs.high.a": {"burst": 2, "concurrency": 1}}',  # the burst would mean nothing
            "jobs.high.a: has no rate; give one, or a concurrency alone",
        ),
        (
            '{"jobs.urgent.a": {"rate": 1}}',
            "jobs.urgent.a: 'urgent' is no tier; use P0, P1, P2, P3 or high, normal, low, scheduled",
        ),
        (
            '{"production.jobs.high.a": {"rate": 1}}',
            "production.jobs.high.a: queue 'production.jobs.high.a' belongs to the environment 'production', "
            "but this one is 'local'",
        ),
        (
            '{"jobs.high.a": {"rate": 1}, "local.jobs.high.a": {"rate": 2}}',
            "names a queue twice, in full and without its environment; keep one of them",
        ),
    ],
)
def test_faults_in_limits(monkeypatch: pytest.MonkeyPatch, limits: str, line: str) -> None:
    monkeypatch.setenv("FOURLANE_LIMITS", limits)

    assert faults() == [f"FOURLANE_LIMITS: {line}"]


@pytest.mark.parametrize(
    ("networks", "fault"),
    [
        ("abc", "is not JSON: Expecting value"),
        ("[1]", "is not a JSON object"),
        ('{"stripe": 5}', "does not name networks by provider"),
        ('{"stripe": ["somewhere"]}', "'somewhere' does not appear to be an IPv4 or IPv6 network"),
        ('{"stripe": ["3.18.12.63/8"]}', "has host bits set"),
    ],
)
def test_faults_in_networks(monkeypatch: pytest.MonkeyPatch, networks: str, fault: str) -> None:
    monkeypatch.setenv("FOURLANE_WEBHOOK_ALLOW_FROM", networks)

    [line] = faults()
    assert line.startswith("FOURLANE_WEBHOOK_ALLOW_FROM: ")
    assert fault in line


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ('{"mail": {"rate": 1}}', "mail: 'mail' is no channel with users; use email, sms, push"),
        ('{"sms": {"rate": 1, "burst": 2}}', "sms: burst: is not known; use rate, per_ms"),
        ('{"sms": {}}', 'sms: has no rate; write {"rate": 5, "per_ms": 86400000}'),
        ('{"sms": 5}', 'sms: is not an object; write {"rate": 5, "per_ms": 86400000}'),
    ],
)
def test_faults_in_limits_of_users(monkeypatch: pytest.MonkeyPatch, limits: str, line: str) -> None:
    monkeypatch.setenv("FOURLANE_NOTIFICATION_USER_LIMITS", limits)

    assert faults() == [f"FOURLANE_NOTIFICATION_USER_LIMITS: {line}"]


def test_an_override_by_an_unknown_name_is_a_fault() -> None:
    assert faults(REDIS_URL="redis://h") == ["REDIS_URL: there is no such setting; did you mean redis_url?"]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().slots = 9


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SECRETS | PUBLIC).items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    for text in (
        repr(settings),
        str(settings),
        str(settings.model_dump()),
        str(settings.model_dump(mode="json")),
        settings.model_dump_json(),
        str(settings.describe()),
    ):
        assert "hush" not in text
        assert "shown.supabase.co" in text
    shown = {variable: value for variable, (value, _) in described(settings).items()}
    assert shown["REDIS_URL"] == "rediss://redis.example:6380/2"
    assert shown["DATABASE_URL"] == "postgresql://db.example:5432/fourlane"
    for name in set(SECRETS) - {"REDIS_URL", "DATABASE_URL"}:
        assert shown[name] == "set (hidden)", name


def test_a_refused_secret_is_in_no_part_of_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "http://user:hush@h")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert "hush" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:hush@h?db=3&password=hush", "redis://h?db=3"),
        ("unix://user@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis://user:hu@sh@[::1]:6379", "redis://[::1]:6379"),
        # Unescaped marks in a password end the host too early.
        ("redis://user:1/hush@h:6379/0", "set (hidden)"),
        ("redis://user:1?hush@h", "set (hidden)"),
        ("redis://user:1#hush@h", "set (hidden)"),
        ("redis://:hush", "set (hidden)"),
    ],
)
def test_a_url_is_shown_without_credentials(url: str, shown: str) -> None:
    assert described(load_settings(redis_url=url))["REDIS_URL"] == (shown, "override")


@pytest.mark.parametrize("url", ["user:hush", "user:hush://", "host=db password=hush", "user:hush@h/db"])
def test_a_database_url_that_is_none_is_hidden(url: str) -> None:
    assert described(load_settings(database_url=url))["DATABASE_URL"] == ("set (hidden)", "override")


def test_what_is_not_a_word_is_shown_as_one_would_write_it() -> None:
    shown = described(load_settings(log_jobs=True, limits={"jobs.high.a": {"rate": 10}}))

    assert shown["FOURLANE_LOG_JOBS"][0] == "true"
    assert shown["FOURLANE_LIMITS"][0] == '{"local.jobs.high.a": {"rate": 10}}'
    assert shown["FOURLANE_HARD_TIMEOUT_MS"] == ("not set", "default")


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
    ("FOURLANE_OUTBOX_KEEP_SECONDS", "26"),
    ("FOURLANE_EVENTS_BUCKET", "large"),
    ("FOURLANE_EVENTS_MAX_BYTES", "2002"),
    ("FOURLANE_EVENTS_BUFFER", "19"),
    ("FOURLANE_EVENTS_RECEIVERS", "20"),
    ("FOURLANE_EVENTS_VISIBILITY_SECONDS", "21"),
    ("FOURLANE_WATCH_STREAMS", "true"),
    ("OPENAI_API_KEY", "hush", None),
    ("ANTHROPIC_API_KEY", "hush", None),
    ("GOOGLE_AI_API_KEY", "hush", None),
    ("PERPLEXITY_API_KEY", "hush", None),
    ("OPENROUTER_API_KEY", "hush", None),
    ("FOURLANE_AI", '{"budgets_usd": {"acme": 10.0}}', '{"budgets_usd":{"acme":10.0}}'),
    ("STRIPE_SECRET_KEY", "hush", None),
    ("STRIPE_PUBLISHABLE_KEY", "pk_1"),
    ("FOURLANE_STRIPE_URL", "https://stripe.example.com"),
    ("PAYPAL_CLIENT_ID", "client"),
    ("PAYPAL_CLIENT_SECRET", "hush", None),
    ("FOURLANE_PAYPAL_SANDBOX", "true"),
    ("FOURLANE_PAYPAL_URL", "https://paypal.example.com"),
    ("FOURLANE_STRIPE_WEBHOOK_SECRETS", "hush", None),
    ("FOURLANE_PAYPAL_WEBHOOK_ID", "WH-1"),
    ("FOURLANE_PAYPAL_WEBHOOK_WAY", "postback"),
    ("FOURLANE_SUPABASE_WEBHOOK_SECRETS", "hush", None),
    ("FOURLANE_SUPABASE_HOOK_SECRETS", "hush", None),
    ("FOURLANE_WEBHOOK_ALLOW_FROM", '{"stripe": ["3.18.12.63/32"]}'),
    ("FOURLANE_WEBHOOK_RATE", "33"),
    ("FOURLANE_WEBHOOK_PROXIES", "34"),
    ("FOURLANE_WEBHOOK_ALLOW_PRIVATE", "true"),
    ("FOURLANE_WEBHOOK_TIMEOUT_SECONDS", "31"),
    ("FOURLANE_WEBHOOK_DISABLE_DAYS", "35"),
    ("FOURLANE_NOTIFICATION_TEMPLATES", "/templates"),
    ("FOURLANE_NOTIFICATION_USER_LIMITS", '{"sms": {"rate": 5}}'),
    ("FOURLANE_NOTIFICATION_TIMEOUT_SECONDS", "27"),
    ("FOURLANE_NOTIFICATION_KEEP_DAYS", "32"),
    ("FOURLANE_UNSUBSCRIBE_URL", "https://example.com/out"),
    ("FOURLANE_EMAIL_FROM", "Shop <shop@example.com>"),
    ("FOURLANE_SMTP_URL", "smtp://u:hush@mail", None),
    ("RESEND_API_KEY", "hush", None),
    ("FOURLANE_RESEND_WEBHOOK_SECRET", "hush", None),
    ("FOURLANE_RESEND_URL", "https://resend.example.com"),
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
    )


REFUSING = {variable for field, variable in variables().items() if not _is_free(field)}


def test_most_settings_refuse_something() -> None:
    assert len(REFUSING) > 50


@pytest.mark.parametrize("value", ["{hush", '{"hush": {"hush": []}}'])
def test_the_command_tells_each_fault_by_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for variable in REFUSING:
        monkeypatch.setenv(variable, value)
    told = CliRunner().invoke(main, ["config"], catch_exceptions=False)
    assert (told.exit_code, told.stdout) == (1, "")
    assert {line.split(": ")[1] for line in told.stderr.splitlines()} == REFUSING
    assert not [line for line in told.stderr.splitlines() if "REDIS_URL" in line and "hush" in line]


WHOLE_NUMBERS = [field for field, info in Settings.model_fields.items() if info.annotation in (int, int | None)]


def test_there_are_whole_numbers() -> None:
    assert len(WHOLE_NUMBERS) > 30


@pytest.mark.parametrize("field", WHOLE_NUMBERS)
def test_a_number_that_no_part_could_take_is_refused(field: str) -> None:
    with pytest.raises(SettingsError, match=r"(too large|does not fit|is no port); use"):
        load_settings(**{field: 10**20})


@pytest.mark.parametrize("value", ["[" * 20_000, '{"a":' * 20_000])
@pytest.mark.parametrize("name", ["WEBHOOK_ALLOW_FROM", "LIMITS", "MAINTENANCE", "AI", "NOTIFICATION_USER_LIMITS"])
def test_json_nested_too_deeply_is_a_fault_like_another(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FOURLANE_{name}", value)
    with pytest.raises(SettingsError, match=f"FOURLANE_{name}: "):
        load_settings()


def test_an_environment_of_a_name_too_long_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "x" * 300)
    with pytest.raises(SettingsError, match="is no environment; use local, staging or production"):
        load_settings()
