"""Resend, Twilio, a push service, Slack and PagerDuty on this machine; they go wrong when told to."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from examples.notifications.browser import Browser
from tests.http_server import Reply, Request, serving

KEY = "re_stand_in"
FIELDS = {"from", "to", "cc", "bcc", "reply_to", "subject", "text", "html", "headers", "tags", "attachments"}
ACCOUNT, TOKEN = "AC00000000000000000000000000000000", "twilio-token"


@dataclass
class Fault:
    """What comes in place of the right answer. ``taken``: the message was kept all the same."""

    reply: Reply
    taken: bool = False


@dataclass
class Providers:
    """One server that plays all of them.

    emails, texts, pushes, chat, pages: what people got.
    """

    emails: list[dict[str, Any]] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)
    pushes: list[dict[str, Any]] = field(default_factory=list)
    chat: list[str] = field(default_factory=list)
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    per_second: int = 0
    """Requests that Resend takes in a second; 0: any number."""
    asked_at: list[float] = field(default_factory=list)
    """When it was asked, refusals among them."""
    refused: int = 0
    faults: deque[Fault] = field(default_factory=deque)
    arrived: threading.Event = field(default_factory=threading.Event)
    """Set when a request has been kept."""
    url: str = ""
    _by_key: dict[str, tuple[Any, Reply]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Providers:
        self._stack = ExitStack()
        self.browser = Browser()
        self.url = self._stack.enter_context(serving(self._answer))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fail(self, status: int = 500, *, times: int = 1, taken: bool = False, **reply: Any) -> None:
        """The next answers are these."""
        for _ in range(times):
            self.faults.append(Fault(Reply(status=status, **reply), taken))

    @property
    def subscription(self) -> dict[str, Any]:
        """What the browser gave."""
        return self.browser.subscription(f"{self.url}/push/browser-1")

    def _answer(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            fault = self.faults.popleft() if self.faults and request.method == "POST" else None
            if fault is not None and not fault.taken:
                reply = fault.reply
            else:
                right = self._serve(request)
                reply = fault.reply if fault is not None else right
            self.arrived.set()
        return reply

    def _serve(self, request: Request) -> Reply:
        path = urlsplit(request.path).path
        if path in ("/emails", "/emails/batch"):
            return self._resend(request, path)
        if path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json":
            return self._twilio(request)
        if path.startswith("/push/"):
            self.pushes.append(self.browser.read(request.body))
            return Reply(201, b"", {"location": f"{self.url}/m/{len(self.pushes)}"})
        if path == "/slack":
            self.chat.append(json.loads(request.body)["text"])
            return Reply(200, b"ok")
        if path == "/v2/enqueue":
            page = json.loads(request.body)
            self.pages[page["dedup_key"]] = page
            return Reply(202, json.dumps({"status": "success", "dedup_key": page["dedup_key"]}).encode())
        return Reply(404)

    def _resend(self, request: Request, path: str) -> Reply:
        now = time.monotonic()
        self.asked_at.append(now)
        if self.per_second and sum(at > now - 1 for at in self.asked_at) > self.per_second:
            self.refused += 1
            return Reply(429, b'{"name": "rate_limit_exceeded", "message": "too many"}', {"retry-after": "1"})
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return Reply(401, b'{"name": "restricted_api_key", "message": "API key is invalid"}')
        key, body = request.headers["idempotency-key"], json.loads(request.body)
        if key in self._by_key:
            first, reply = self._by_key[key]
            return reply if first == body else Reply(409, b'{"name": "invalid_idempotent_request", "message": "no"}')
        answer = self._take_batch(request, body) if path == "/emails/batch" else self._take(body)
        reply = Reply(200 if answer else 422, json.dumps(answer or {"name": "validation_error"}).encode())
        if answer:
            self._by_key[key] = (body, reply)
        return reply

    def _take(self, mail: dict[str, Any]) -> dict[str, str] | None:
        if not mail.keys() <= FIELDS or mail["to"][0].startswith("invalid"):
            return None
        self.emails.append(mail)
        return {"id": f"email-{len(self.emails)}"}

    def _take_batch(self, request: Request, mails: list[dict[str, Any]]) -> dict[str, Any] | None:
        if not 1 <= len(mails) <= 100 or any("attachments" in mail or "scheduled_at" in mail for mail in mails):
            return None
        if request.headers.get("x-batch-validation") != "permissive":
            return None
        taken = [self._take(mail) for mail in mails]
        errors = [{"index": place, "message": "bad to"} for place, one in enumerate(taken) if one is None]
        return {"data": [one for one in taken if one is not None]} | ({"errors": errors} if errors else {})

    def _twilio(self, request: Request) -> Reply:
        login = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {login}":
            return Reply(401, b'{"code": 20003, "message": "Authenticate"}')
        if request.method == "GET":
            to = parse_qs(urlsplit(request.path).query)["To"][0]
            rows = [row for row in self.texts if row["to"] == to]
            return Reply(200, json.dumps({"messages": rows}).encode())
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        row = {
            "sid": f"SM{len(self.texts) + 1}",
            "to": form["To"],
            "body": form["Body"],
            "date_created": format_datetime(datetime.now(UTC)),
            "callback": form.get("StatusCallback", ""),
        }
        self.texts.append(row)
        return Reply(201, json.dumps(row).encode())
