"""What an email has beside its words, as it arrives: by SMTP in a real mailbox, by Resend in its documented form."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import make_server

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope

from fourlane.app import App
from fourlane.errors import Reject
from fourlane.providers.messages import smtp
from fourlane.storage import file_name
from fourlane.tasks.notifications.ledger import Ledger
from fourlane.tasks.notifications.notification import InvalidNotification, checked
from fourlane.tasks.notifications.wsgi import from_settings
from tests.servers import free_port
from tests.tasks.notifications.conftest import Run
from tests.tasks.notifications.standins import Providers

MAIL = {"to": "ada@example.com", "subject": "Hi", "text": "Hello Ada"}
FILE = "data:text/plain;base64," + base64.b64encode("Grüße".encode()).decode()


class Mailbox:
    """Keeps what arrived, octet by octet, and who logged in."""

    def __init__(self) -> None:
        self.got: list[Envelope] = []
        self.logins: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.got.append(envelope)
        return "250 OK"

    def log_in(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins.append(data.password)
        return AuthResult(success=True)

    def raw(self) -> bytes:
        content = self.got[-1].content
        assert isinstance(content, bytes)
        return content

    def mail(self) -> EmailMessage:
        return message_from_bytes(self.raw(), policy=default)  # type: ignore[arg-type,return-value]


@pytest.fixture
def mailbox(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    box = Mailbox()
    controller = Controller(
        box, hostname="127.0.0.1", port=free_port(), authenticator=box.log_in, auth_require_tls=False
    )
    controller.start()
    monkeypatch.setenv("FOURLANE_SMTP_URL", f"smtp://mailuser:secret@127.0.0.1:{controller.port}")
    yield box
    controller.stop()


@pytest.fixture
def page(ledger: Ledger) -> Iterator[Callable[[str], int]]:
    """One click, as a mail program makes it (RFC 8058)."""
    pages = from_settings()
    server = make_server("127.0.0.1", 0, pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()

    def click(url: str) -> int:
        parts = urlsplit(url)
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        kind = {"content-type": "application/x-www-form-urlencoded"}
        path = f"{parts.path.removeprefix('/n')}?{parts.query}"
        connection.request("POST", path, "List-Unsubscribe=One-Click", kind)
        status = connection.getresponse().status
        connection.close()
        return status

    yield click
    server.shutdown()
    thread.join()
    server.server_close()
    pages._ledger._database.close()


LONG = f"{'a' * 60}@{'b' * 60}.{'c' * 60}.example.com"


@pytest.mark.parametrize("to", ["ada@example.com", LONG])
def test_one_click_by_smtp(run: Run, mailbox: Mailbox, page: Callable[[str], int], to: str) -> None:
    fields = MAIL | {"to": to, "category": "news", "subject": "Grüße an " + "alle " * 30}
    run("email", "j1", **fields)
    lines = mailbox.raw().split(b"\r\n")
    [line] = [one for one in lines if one.lower().startswith(b"list-unsubscribe:")]
    assert line.startswith(b"List-Unsubscribe: <https://example.com/n/unsubscribe?token=")
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines
    assert all(len(one) <= max(78, len(to) + 10) for one in lines if one is not line)
    mail = mailbox.mail()
    assert mail["to"] == to
    assert mail["subject"] == ("Grüße an " + "alle " * 30).strip()
    assert page(mail["list-unsubscribe"].strip("<>")) == 200
    assert run("email", "j2", **fields)["status"] == "suppressed"


def test_one_click_by_resend(run: Run, providers: Providers, page: Callable[[str], int]) -> None:
    run("email", "j1", **MAIL, category="news")
    headers = providers.emails[0]["headers"]
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert page(headers["List-Unsubscribe"].strip("<>")) == 200
    assert run("email", "j2", **MAIL, category="news")["status"] == "suppressed"


def test_a_login_goes_out_by_tls_alone(run: Run, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    run("email", "j1", **MAIL)  # on this machine it may
    assert mailbox.logins == [b"secret"]
    monkeypatch.setattr(smtp, "_is_loopback", lambda connection: False)
    with pytest.raises(Reject, match=r"offers no TLS.*FOURLANE_SMTP_URL.*FOURLANE_SMTP_ALLOW_PLAIN") as refused:
        run("email", "j2", **MAIL)
    assert "secret" not in str(refused.value)
    assert (len(mailbox.logins), len(mailbox.got)) == (1, 1)


def test_a_login_without_tls_where_that_is_allowed(run: Run, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_SMTP_ALLOW_PLAIN", "true")
    monkeypatch.setattr(smtp, "_is_loopback", lambda connection: False)
    assert run("email", **MAIL)["status"] == "sent"
    assert mailbox.logins == [b"secret"]


MORE: dict[str, Any] = {
    "reply_to": ["help@example.com"],
    "cc": ["bob@example.com"],
    "bcc": ["cy@example.com"],
    "attachments": [{"source": FILE, "name": "grüße.txt"}],
}


def test_copies_and_attachments_by_smtp(run: Run, mailbox: Mailbox) -> None:
    run("email", **MAIL, **MORE)
    mail = mailbox.mail()
    assert (mail["cc"], mail["reply-to"], mail["bcc"]) == ("bob@example.com", "help@example.com", None)
    assert mailbox.got[0].rcpt_tos == ["ada@example.com", "bob@example.com", "cy@example.com"]
    [file] = mail.iter_attachments()
    assert (file.get_filename(), file.get_content_type()) == ("grüße.txt", "text/plain")
    assert file.get_payload(decode=True) == "Grüße".encode()


def test_copies_and_attachments_by_resend(run: Run, providers: Providers) -> None:
    run("email", **MAIL, **MORE)
    [mail] = providers.emails
    assert (mail["cc"], mail["bcc"], mail["reply_to"]) == (MORE["cc"], MORE["bcc"], MORE["reply_to"])
    assert mail["attachments"] == [
        {"filename": "grüße.txt", "content": FILE.partition(",")[2], "content_type": "text/plain"}
    ]
    assert {tag["name"] for tag in mail["tags"]} == {"fourlane_record", "fourlane_copies"}


def test_an_attachment_out_of_the_storage(run: Run, providers: Providers) -> None:
    ref = App().storage.put(file_name("uploads", "acme", "bills", "bill.pdf"), b"%PDF-1.7 " + b"x" * 1_000_000, "")
    with pytest.raises(Reject, match="not of the tenant 'umbra'"):
        run("email", "j1", tenant="umbra", **MAIL, attachments=[{"source": ref}])
    run("email", "j2", tenant="acme", **MAIL, attachments=[{"source": ref}])
    [file] = providers.emails[0]["attachments"]
    assert (file["filename"], file["content_type"]) == ("bill.pdf", "application/pdf")
    assert len(base64.b64decode(file["content"])) == 1_000_009


def test_a_file_that_is_too_large_or_gone(run: Run, providers: Providers, tmp_path: Path) -> None:
    ref = App().storage.put(file_name("uploads", "", "x", "large.bin"), b"x" * (25 << 20), "")
    with pytest.raises(Reject, match=r"attachment: .*large.bin.* has more than the .* bytes"):
        run("email", "j1", **MAIL, attachments=[{"source": FILE}, {"source": ref}])
    App().storage.delete(ref)
    with pytest.raises(Reject, match=r"attachment: .*is not stored"):
        run("email", "j2", **MAIL, attachments=[{"source": ref}])
    with pytest.raises(Reject, match="no file may be read by its path"):
        run("email", "j3", **MAIL, attachments=[{"source": "/etc/passwd"}])
    assert providers.emails == []


@pytest.mark.parametrize(
    ("channel", "fields", "reason"),
    [
        ("email", {"cc": ["bob"]}, "'bob' is no email address"),
        ("email", {"reply_to": ["a@example.com\r\nBcc: all@example.com"]}, "is no email address"),
        ("email", {"bcc": ["a@example.com"] * 50}, "at most 50 addresses"),
        ("email", {"attachments": [{"source": FILE, "name": "a\r\nb"}]}, "is no name of a file"),
        ("email", {"attachments": [{"source": FILE, "name": "../a"}]}, "is no name of a file"),
        ("email", {"attachments": [{"source": FILE}] * 21}, "at most 20 attachments"),
        ("email", {"attachments": [{"path": "/etc/passwd"}]}, "unknown field `path`"),
        ("sms", {"to": "+4915112345678", "cc": ["a@example.com"]}, "only an email has"),
        ("slack", {"to": None, "links": [{"href": "javascript:alert(1)"}]}, "is no link"),
        ("slack", {"to": None, "links": [{"href": "https://a|<!channel>"}]}, "is no link"),
    ],
)
def test_what_is_wrong_with_what_goes_along(channel: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidNotification, match=reason):
        checked(channel, {"to": "ada@example.com", "text": "x"} | fields)


def test_a_domain_that_is_not_verified_is_no_matter_of_the_key(run: Run, providers: Providers) -> None:
    said = b'{"name": "validation_error", "message": "The example.com domain is not verified."}'
    providers.fail(403, body=said)
    with pytest.raises(Reject, match=r"resend refuses it: .*domain is not verified"):
        run("email", "j1", **MAIL)
    providers.fail(403, body=b'{"name": "invalid_api_key", "message": "API key is invalid"}')
    with pytest.raises(Reject, match="resend refuses our key"):
        run("email", "j2", **MAIL)


def test_a_subject_is_one_line_whatever_strangers_wrote_into_it(run: Run, mailbox: Mailbox) -> None:
    run("email", **MAIL | {"subject": "Hi\r\nBcc: all@example.com\x00\x1b[2J" + "x" * 5_000})
    assert mailbox.mail()["subject"].startswith("Hi Bcc: all@example.com[2Jx")
    assert len(mailbox.mail()["subject"]) == 500
    assert mailbox.got[0].rcpt_tos == ["ada@example.com"]
