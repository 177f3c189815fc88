"""``fourlane webhooks``, by the real program."""

from __future__ import annotations

import json

import pytest
import stripe

from fourlane import app, crypto
from fourlane.config import load_settings
from fourlane.db.engine import open_database
from fourlane.db.models import SecurityEvent, WebhookDelivery
from fourlane.tasks.webhooks import send_event
from tests.command import Command, command  # noqa: F401

pytestmark = pytest.mark.timeout(300)  # many processes, each slow to start where the machine is busy
BODY = '{"id":"evt_1","type":"invoice.paid","created":1768726000,"data":{"object":{"id":"in_1"}}}'
SECRET = "whsec_test_of_this_suite"


@pytest.fixture
def hooks(command: Command, migrated_sqlite_url: str) -> Command:  # noqa: F811
    command.env |= {
        "DATABASE_URL": migrated_sqlite_url,
        "FOURLANE_ENCRYPTION_KEYS": crypto.new_key(),
        "FOURLANE_STRIPE_WEBHOOK_SECRETS": f"whsec_older, {SECRET}",
    }
    return command


def test_an_endpoint_from_its_making_to_its_end(hooks: Command) -> None:
    made = json.loads(
        hooks("webhooks", "endpoints", "add", "https://a.example/hook", "--type", "invoice.*", "--json").stdout
    )
    assert made["secret"].startswith("whsec_")
    rotated = json.loads(hooks("webhooks", "endpoints", "rotate", made["id"], "--overlap", "1h", "--json").stdout)
    assert rotated["secret"] not in (made["secret"], "")
    assert hooks("webhooks", "endpoints", "disable", made["id"], "--reason", "asked for").returncode == 0
    listed = hooks("webhooks", "endpoints", "list")
    assert "disabled: asked for" in listed.stdout
    assert "whsec_" not in listed.stdout + hooks("webhooks", "endpoints", "list", "--json").stdout
    assert hooks("webhooks", "endpoints", "enable", made["id"]).returncode == 0
    refused = hooks("webhooks", "endpoints", "change", made["id"], "--url", "http://127.0.0.1:8000")
    assert (refused.returncode, "FOURLANE_WEBHOOK_ALLOW_PRIVATE" in refused.stderr) == (1, True)
    changed = hooks(
        "webhooks", "endpoints", "change", made["id"], "--url", "https://b.invalid/", "--max-concurrency", "3"
    )
    assert (changed.returncode, "cannot resolve b.invalid" in changed.stderr) == (0, True)
    [endpoint] = json.loads(hooks("webhooks", "endpoints", "list", "--json").stdout)["endpoints"]
    assert (endpoint["event_types"], endpoint["disabled_at"]) == (["invoice.*"], None)
    assert (endpoint["url"], endpoint["max_concurrency"]) == ("https://b.invalid/", 3)


def test_deliveries_and_resending(hooks: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks("webhooks", "endpoints", "add", "https://a.example/hook")
    crypto.configure(crypto.Keyring([hooks.env["FOURLANE_ENCRYPTION_KEYS"]]))
    for name in ("REDIS_URL", "FOURLANE_NAMESPACE"):
        monkeypatch.setenv(name, hooks.env[name])
    database = open_database(hooks.env["DATABASE_URL"])
    with database.begin() as session:
        [id] = send_event(session, "invoice.paid", {"amount": 1999})
    with database.begin() as session:
        row = session.get_one(WebhookDelivery, id)
        row.status, row.error = "failed", "HTTP 500"
    database.close()
    crypto.configure(None)

    assert "HTTP 500" in hooks("webhooks", "deliveries", "list", "--status", "failed").stdout
    shown = json.loads(hooks("webhooks", "deliveries", "show", str(id), "--json").stdout)
    assert shown["payload"]["data"] == {"amount": 1999}
    assert "1 would be delivered again" in hooks("webhooks", "resend", "--newer-than", "1h", "--dry-run").stdout
    assert "1 are on their way" in hooks("webhooks", "resend", "--newer-than", "1h", "--yes").stdout
    [delivery] = json.loads(hooks("webhooks", "deliveries", "list", "--json").stdout)["deliveries"]
    assert (delivery["status"], delivery["error"]) == ("pending", None)
    # Its job waits in the outbox.
    assert "0 would be delivered again" in hooks("webhooks", "resend", "--status", "pending", "--dry-run").stdout


def test_is_it_genuine(hooks: Command) -> None:
    header = stripe.WebhookSignature.generate_signature_header(BODY, SECRET, 1_768_726_800)
    call = ("webhooks", "verify", "stripe", "-", "--header", f"Stripe-Signature: {header}")
    genuine = hooks(*call, "--at", "2026-01-18T09:01:00Z", input=BODY)
    assert genuine.returncode == 0, genuine.stderr
    assert "genuine: invoice.paid evt_1, signed 2026-01-18 09:00:00 UTC" in genuine.stdout
    late = hooks(*call, "--at", "2026-01-18T09:10:00Z", input=BODY)
    assert (late.returncode, "age: signed 600 s ago" in late.stderr) == (1, True)
    early = hooks(*call, "--at", "2026-01-18T08:50:00Z", input=BODY)
    assert "age: signed 600 s ahead of our clock" in early.stderr
    assert "signature: no secret of ours made it" in hooks(*call, input=BODY + " ").stderr
    assert "not configured" in hooks("webhooks", "verify", "paypal", input="{}").stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("endpoints", "add", "a.example"), "the URL must begin with http:// or https://"),
        (("endpoints", "add", "https://u:hush@a.example"), "the URL must not carry a user name or password"),
        (("endpoints", "add", "https://a.example:22"), "port 22 is not allowed"),
        (
            ("endpoints", "add", "https://10.0.0.5"),
            "10.0.0.5 is a private address; FOURLANE_WEBHOOK_ALLOW_PRIVATE=true allows it",
        ),
        (("endpoints", "add", "https://169.254.169.254"), "169.254.169.254 is a link-local address\n"),
        (("endpoints", "add", "https://a.example", "--type", "in*ice"), "write it in full, or its beginning"),
        (("endpoints", "change", "0" * 32, "--url", "https://a.example"), "there is no endpoint"),
        (("endpoints", "add", "https://a.example", "--organization", "0" * 32), "there is no organization"),
        (("endpoints", "rotate", "x"), "'x' is no id"),
        (("endpoints", "rotate", "0" * 32), "there is no endpoint"),
        (("deliveries", "show", "0" * 32), "there is no delivery"),
        (("deliveries", "list", "--endpoint", "0" * 32), "there is no endpoint"),
        (("resend",), "give ids, or a filter"),
        (("resend", "0" * 32), "there is no delivery"),
        (("verify", "stripe", "-", "--header", "x"), "write 'NAME: VALUE'"),
        (("verify", "stripe", "-", "--at", "2026-01-18T09:10:00"), "has no time zone"),
    ],
)
def test_mistakes_in_a_line(hooks: Command, args: tuple[str, ...], message: str) -> None:
    done = hooks("webhooks", *args)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_forgery_is_a_security_event(hooks: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "FOURLANE_ENCRYPTION_KEYS", "FOURLANE_STRIPE_WEBHOOK_SECRETS"):
        monkeypatch.setenv(name, hooks.env[name])
    receiver = app.webhook_receiver(load_settings())
    assert receiver.receive("stripe", {"Stripe-Signature": "t=1,v1=0"}, b"{}", address="6.6.6.6").status == 401
    database = open_database(hooks.env["DATABASE_URL"])
    with database.begin() as session:
        [row] = session.query(SecurityEvent).all()
        assert (row.kind, row.severity, row.source, row.ip_address) == (
            "webhook_refused",
            "warning",
            "webhooks.stripe",
            "6.6.6.6",
        )
        assert row.details["reason"] == "signature"
    database.close()
    crypto.configure(None)
