"""Notifications into a local mailbox (SMTP), a browser, and a stand-in for Twilio, Slack and PagerDuty; one limits the
rate.

``python -m examples.deliveries`` runs it at its end, beside its ``fourlane dev``. It starts a worker of its own.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

from examples.notifications.browser import Browser, vapid_key

__all__ = ["run"]

PATIENCE_SECONDS = 60
TEXTS = 6
LIMITED = 3
READY = "Your video is ready"


class _Mailbox(MessageHandler):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.mails.append(message)


class _StandIn(BaseHTTPRequestHandler):
    """Answers as Twilio, Slack, PagerDuty and a push service do. Twilio is over its limit at first."""

    browser: Browser
    got: Counter[str]
    limited: list[float]
    lock: threading.Lock

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = urlsplit(self.path).path
        with self.lock:
            if path == "/push":
                self.got[f"push: {self.browser.read(sent)['title']}"] += 1
                return self._answer(201, "")
            body = sent.decode()
            if "/Messages.json" in path and len(self.limited) < LIMITED:
                self.limited.append(time.time())
                return self._answer(429, {"code": 20429, "message": "Too Many Requests"}, {"Retry-After": "1"})
            if "/Messages.json" in path:
                self.got["sms"] += 1
                return self._answer(201, {"sid": f"SM{self.got['sms']}", "to": parse_qs(body)["To"][0]})
            if path == "/v2/enqueue":
                self.got["pagerduty"] += 1
                return self._answer(202, {"status": "success", "dedup_key": json.loads(body)["dedup_key"]})
            self.got["slack"] += 1
            return self._answer(200, "ok")

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def run() -> bool:
    """Show it. True when all came out as it must."""
    mailbox = _Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    smtp = Controller(mailbox, hostname="127.0.0.1", port=port)
    smtp.start()
    with TemporaryDirectory() as folder, _stand_in() as (url, stand_in):
        settings = {
            "DATABASE_URL": f"sqlite:///{folder}/notifications.db",
            "FOURLANE_ENCRYPTION_KEYS": base64.b64encode(os.urandom(32)).decode(),
            "FOURLANE_SMTP_URL": f"smtp://127.0.0.1:{port}",
            "FOURLANE_EMAIL_FROM": "Demo <hello@example.com>",
            "FOURLANE_UNSUBSCRIBE_URL": "https://example.com/unsubscribe",
            "FOURLANE_NOTIFICATION_TEMPLATES": str(Path(__file__).parent / "templates"),
            "TWILIO_ACCOUNT_SID": "AC0",
            "TWILIO_AUTH_TOKEN": "none",
            "FOURLANE_TWILIO_URL": url,
            "FOURLANE_SMS_FROM": "+15005550006",
            "FOURLANE_SLACK_WEBHOOK_URL": f"{url}/slack",
            "FOURLANE_PAGERDUTY_ROUTING_KEY": "none",
            "FOURLANE_PAGERDUTY_URL": url,
            "FOURLANE_VAPID_PRIVATE_KEY": vapid_key(),
            "FOURLANE_VAPID_CONTACT": "mailto:ops@example.com",
            "FOURLANE_PUSH_ALLOW_PRIVATE": "true",
        }
        with _environment(settings):
            statuses = _send_all(stand_in.browser.subscription(f"{url}/push"))
    smtp.stop()
    emails = Counter(str(mail["subject"]) for mail in mailbox.mails)
    print(f"\nnotifications: {dict(statuses)}")
    print(f"  in the mailbox: {dict(emails)}")
    got, limited = stand_in.got, len(stand_in.limited)
    print(f"  SMS {got['sms']} (429 {limited} times first), Slack {got['slack']}, PagerDuty {got['pagerduty']}")
    print(f"  in the browser: {[word.removeprefix('push: ') for word in got if word.startswith('push: ')]}")
    return (
        statuses == {"sent": 3 + TEXTS + 1 + 2, "duplicate": 1, "suppressed": 1, "collected": 3, "digest": 1}
        # More than these when an earlier run was broken off: its jobs are still there.
        and len(mailbox.mails) >= 4
        and got >= Counter({"sms": TEXTS, "slack": 1, "pagerduty": 1, f"push: {READY}": 1})
        and limited == LIMITED
    )


@contextmanager
def _stand_in() -> Iterator[tuple[str, Any]]:
    handler = type(
        "Handler", (_StandIn,), {"browser": Browser(), "got": Counter(), "limited": [], "lock": threading.Lock()}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ |= settings
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _send_all(subscription: dict[str, Any]) -> Counter[str]:
    """Enqueue them, run a worker until all are over; how they ended.

    Parameters:
      subscription: of the browser.
    """
    from fourlane import app
    from fourlane.config import load_settings
    from fourlane.db import migrate
    from fourlane.tasks.notifications import Notification, alert, notify
    from fourlane.tasks.notifications.ledger import Ledger
    from fourlane.tasks.notifications.setup import configure

    settings = load_settings()
    configure(app.App(settings).notifications)  # this process has read others before
    database = app.open_database(settings)
    migrate.migrate(database)
    ledger = Ledger(database, {})
    margaret = uuid.uuid4()
    ledger.prefer(margaret, "email", "product", enabled=False)

    def welcome(name: str, **more: Any) -> Notification:
        data = {"name": name.title(), "plan": "Pro"}
        return Notification(
            to=f"{name}@example.com", template="welcome", data=data, category="product", dedup_key="welcome", **more
        )

    def comment(who: str) -> Notification:
        data = {"who": who, "text": "Nice!"}
        return Notification(to="ada@example.com", template="comments", data=data, digest="comments", digest_seconds=2)

    with _worker():
        jobs = [
            notify("email", welcome("ada")),
            notify("email", welcome("ada")),  # once is enough
            notify("email", welcome("grace")),
            notify("email", welcome("linus", locale="de-AT")),
            notify("email", welcome("margaret", user_id=margaret)),  # who does not want it
            *(notify("email", comment(who)) for who in ("Grace", "Linus", "Ken")),
            *(notify("sms", Notification(to=f"+4915112345{n:03}", text="Your code is 1234")) for n in range(TEXTS)),
            notify("push", Notification(to=subscription, subject=READY, text="Have a look")),
            alert("The queue is long", severity="warning"),
            alert("The database is down", severity="critical", incident="database"),
        ]
        ends = Counter(job.result(timeout=PATIENCE_SECONDS)["status"] for job in jobs)
        ends["digest"] = _wait_for_digest(database)
    database.close()
    configure(None)
    return ends


def _wait_for_digest(database: Any) -> int:
    """Until the collected ones were sent as one."""
    from sqlalchemy import func, select

    from fourlane.db.models import NotificationRecord

    sent = (NotificationRecord.template == "comments", NotificationRecord.status == "sent")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with database.begin() as session:
            count = session.scalar(select(func.count()).select_from(NotificationRecord).where(*sent))
        if count:
            return int(count)
        time.sleep(0.1)
    return 0


@contextmanager
def _worker() -> Iterator[None]:
    command = [sys.executable, "-m", "fourlane.cli", "worker", "fourlane.tasks.notifications"]
    services = [f"--services=notifications-{channel}" for channel in ("email", "sms", "push", "slack", "pagerduty")]
    process = subprocess.Popen([*command, *services], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
