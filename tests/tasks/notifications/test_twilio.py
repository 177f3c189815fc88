"""SMS: STOP and START, the dates that Twilio writes, what it says of its limits."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from fourlane.errors import RateLimited, Reject
from fourlane.tasks.notifications import deliver
from fourlane.tasks.notifications.ledger import Ledger
from fourlane.tasks.notifications.wsgi import from_settings
from tests.tasks.notifications.conftest import STATUS_URL, Run
from tests.tasks.notifications.standins import TOKEN, Providers

SMS = {"to": "+4915112345678", "text": "Your code is 1234"}
Tell = Callable[..., tuple[str, str, str]]


@pytest.fixture
def tell(ledger: Ledger) -> Any:
    """What Twilio calls us with; the status, the type and the body of our answer."""
    import io

    pages = from_settings()

    def call(**form: str) -> tuple[str, str, str]:
        text = STATUS_URL + "".join(f"{name}{form[name]}" for name in sorted(form))
        body = urlencode(form).encode()
        answer: dict[str, Any] = {}
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/twilio",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "HTTP_X_TWILIO_SIGNATURE": base64.b64encode(hmac.digest(TOKEN.encode(), text.encode(), "sha1")).decode(),
        }
        page = pages(environ, lambda status, headers: answer.update(status=status, headers=dict(headers)))
        return answer["status"], answer["headers"]["Content-Type"], b"".join(page).decode()

    yield call
    pages._ledger._database.close()


def incoming(tell: Tell, word: str, **more: str) -> None:
    told = tell(SmsStatus="received", MessageSid="SM9", From=SMS["to"], To="+15005550006", Body=word, **more)
    assert told == ("200 OK", "text/xml; charset=utf-8", "<Response/>")  # any other answer would be sent as an SMS


@pytest.mark.parametrize(
    ("stop", "start"),
    [
        ({"word": "stop "}, {"word": "Start"}),
        ({"word": "ARRET", "OptOutType": "STOP"}, {"word": "OUI", "OptOutType": "START"}),
    ],
)
def test_stop_and_start(
    run: Run, tell: Tell, providers: Providers, stop: dict[str, str], start: dict[str, str]
) -> None:
    incoming(tell, **stop)
    assert run("sms", "j1", **SMS, required=True)["reason"] == "the address is suppressed: stop"
    incoming(tell, "stop it")  # a sentence is no word
    incoming(tell, **start)
    assert run("sms", "j2", **SMS)["status"] == "sent"


def test_a_start_after_twilio_refused_the_number(run: Run, tell: Tell, providers: Providers) -> None:
    providers.fail(400, body=b'{"code": 21610, "message": "unsubscribed recipient"}')
    with pytest.raises(Reject, match="21610"):
        run("sms", "j1", **SMS)
    assert run("sms", "j2", **SMS)["status"] == "suppressed"
    incoming(tell, "UNSTOP")
    assert run("sms", "j3", **SMS)["status"] == "sent"


def test_a_start_makes_no_dead_number_alive(run: Run, tell: Tell, ledger: Ledger) -> None:
    ledger.suppress("sms", SMS["to"], reason="bounce")
    incoming(tell, "START")
    assert run("sms", **SMS)["status"] == "suppressed"


def test_a_report_of_a_stop_is_lifted_by_a_start(run: Run, tell: Tell) -> None:
    report = {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "21610", "To": SMS["to"]}
    assert tell(**report)[0] == "200 OK"
    assert run("sms", "j1", **SMS)["status"] == "suppressed"
    incoming(tell, "START")
    assert run("sms", "j2", **SMS)["status"] == "sent"


def test_a_date_without_a_zone_is_utc(run: Run, providers: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    providers.fail(500, taken=True)
    with pytest.raises(deliver.SendFailed, match="not known"):
        run("sms", **SMS)
    providers.texts[0]["date_created"] = providers.texts[0]["date_created"].replace("+0000", "-0000")
    assert providers.texts[0]["date_created"].endswith("-0000")
    assert run("sms", attempt=2, **SMS)["message_id"] == "SM1"
    assert len(providers.texts) == 1


@pytest.mark.parametrize("date", [None, "yesterday", 5])
def test_a_list_that_cannot_be_read_leaves_the_question_open(run: Run, providers: Providers, date: Any) -> None:
    providers.fail(500, taken=True)
    with pytest.raises(deliver.SendFailed):
        run("sms", **SMS)
    providers.texts[0]["date_created"] = date
    with pytest.raises(deliver.SendFailed, match="its list is not readable"):
        run("sms", attempt=2, **SMS)
    assert len(providers.texts) == 1


def test_a_limit_without_a_time_is_obeyed_and_sends_once(run: Run, providers: Providers) -> None:
    providers.fail(429)
    with pytest.raises(deliver.SendFailed, match="HTTP 429"):
        run("sms", **SMS)
    providers.fail(429, headers={"retry-after": "3"})
    with pytest.raises(RateLimited):
        run("sms", attempt=2, **SMS)
    assert run("sms", attempt=3, **SMS)["status"] == "sent"
    assert len(providers.texts) == 1
