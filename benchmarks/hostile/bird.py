"""Bird goes about its business at a fixed rate, and measures how long it waits."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import standardwebhooks

from benchmarks.hostile.parties import BIRD, MARK, Member, Party
from fourlane.db.engine import Database
from fourlane.tasks.notifications import Notification, notify
from fourlane.tasks.webhooks import send_event
from tests.http_server import Reply, Request

__all__ = ["STRIPE_SECRET", "Bird", "Receiver", "lines_of", "mail"]

STRIPE_SECRET: Final = "whsec_of_the_platform"
_JOB_SECONDS: Final = 0.2
_EVENT_SECONDS: Final = 0.5
_INCOMING_SECONDS: Final = 1.0
_MAIL_SECONDS: Final = 2.0
_ADDRESS: Final = "127.0.0.2"  # a sender of its own, as strangers have


@dataclass
class Receiver:
    """Bird's, of webhooks: what came when, by endpoint and in its order."""

    secrets: dict[str, str] = field(default_factory=dict)
    arrived: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    strange: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply:
        now, name = time.time(), request.path.strip("/")
        try:
            standardwebhooks.Webhook(self.secrets[name]).verify(request.body, dict(request.headers))
            data = json.loads(request.body)["data"]
            assert data == {"n": data["n"], "of": MARK}
            self.arrived[name].append((now, data["n"]))
        except Exception as error:  # whatever it is, it is not what Bird was sent
            self.strange.append(f"{request.path}: {error!r}")
        return Reply()


class Bird:
    """Four threads, each with its work; use in a ``with``."""

    def __init__(self, members_url: str, database: Database, webhooks_port: int, folder: Path) -> None:
        self.committed: dict[str, float] = {}
        self.sent: dict[int, float] = {}
        self.jobs: dict[str, str] = {}
        """Their ids, by their names."""
        self.answers: dict[str, int] = {}
        self.mails: list[str] = []
        """Their subjects."""
        self.failures: list[str] = []
        self._member, self._database, self._port = Member(members_url, BIRD), database, webhooks_port
        self._ids = folder / "ids"
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=work)
            for work in (
                (_JOB_SECONDS, self._job),
                (_EVENT_SECONDS, self._event),
                (_INCOMING_SECONDS, self._incoming),
                (_MAIL_SECONDS, self._mail),
            )
        ]

    def __enter__(self) -> Bird:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._member.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, seconds: float, work: Callable[[int], None]) -> None:
        number, next_at = 0, time.monotonic()
        while not self._stop.wait(max(0.0, next_at - time.monotonic())):
            number, next_at = number + 1, max(next_at + seconds, time.monotonic())
            try:
                work(number)
            except Exception as error:
                self.failures.append(f"{work.__name__} {number}: {error!r}")

    def _job(self, number: int) -> None:
        name = f"{MARK}-{number}"
        # Its jobs with a key have the same key as some of Acme's.
        values = [json.dumps([name]), str(BIRD.organization), "bird" if number % 5 == 0 else None]
        with self._member.transaction() as cursor:
            cursor.execute("SELECT enqueue_job('thumb', args => %s, organization_id => %s, order_key => %s)", values)
            self.jobs[name] = str(cursor.fetchone()[0])
            self.committed[name] = time.time()
        with self._ids.open("a") as ids:
            ids.write(self.jobs[name] + "\n")

    def _event(self, number: int) -> None:
        data: dict[str, Any] = {"n": number, "of": MARK}
        self.sent[number] = time.time()
        with self._database.begin() as session:
            send_event(session, "order.made", data, organization_id=BIRD.organization, order_key="0")

    def _incoming(self, number: int) -> None:
        event = {"id": f"evt_{MARK}_{number}", "type": "invoice.paid", "created": int(time.time())}
        body = json.dumps(event).encode()
        signed = f"{int(time.time())}.".encode() + body
        signature = hmac.new(STRIPE_SECRET.encode(), signed, hashlib.sha256).hexdigest()
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30, source_address=(_ADDRESS, 0))
        try:
            header = {"Stripe-Signature": f"t={signed.partition(b'.')[0].decode()},v1={signature}"}
            link.request("POST", "/api/webhooks/stripe", body, header)
            self.answers[event["id"]] = link.getresponse().status  # type: ignore[index]
        finally:
            link.close()

    def _mail(self, number: int) -> None:
        """To the same person, under the same key, as some of Acme's."""
        subject = f"{MARK} {number}"
        notify("email", mail(BIRD, number, subject))
        self.mails.append(subject)


def mail(party: Party, number: int, subject: str) -> Notification:
    """What both of them send."""
    return Notification(
        to="ann@example.com",
        subject=subject,
        text=subject,
        dedup_key=f"welcome-{number}",
        organization_id=party.organization,
        user_id=BIRD.user,
        urgent=True,
    )


def lines_of(file: Path) -> list[tuple[float, str]]:
    """What tasks noted (tasks.py)."""
    if not file.exists():
        return []
    return [(float(at), name) for at, _, name in (line.partition(" ") for line in file.read_text().splitlines())]
