"""SMS."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal
from urllib.parse import urlencode

from fourlane.providers import http
from fourlane.providers.messages.call import KEEP_BODY_BYTES, call, check, json_of, reason_of, text_in
from fourlane.providers.messages.message import Impossible, Message, NotTaken, OneAccount, Receipt, Unclear

__all__ = ["DEAD_NUMBERS", "Twilio"]

_LOOKUP_BYTES: Final = 1_048_576
DEAD_NUMBERS: Final[Mapping[str, Literal["bounce", "stop"]]] = {
    "21610": "stop",
    "21211": "bounce",  # no such number
    "21614": "bounce",  # no mobile
    "30005": "bounce",  # unknown handset
    "30006": "bounce",  # landline
}
"""Twilio's errors that say something of the number."""


class Twilio(OneAccount):
    """SMS by Twilio's API. It takes no idempotency key: before a repetition its own list is asked."""

    provider = "twilio"

    _CLOCK_SKEW: Final = timedelta(seconds=60)

    def __init__(
        self,
        account: str,
        token: str,
        *,
        sender: str,
        url: str,
        status_url: str,
        timeout_seconds: float,
        is_known: Callable[[str], bool],
    ) -> None:
        super().__init__(account + token)
        login = base64.b64encode(f"{account}:{token}".encode()).decode()
        self._headers = {"authorization": f"Basic {login}"}
        self._messages = f"{url}/2010-04-01/Accounts/{account}/Messages.json"
        self._sender = sender
        self._status_url = status_url
        self._timeout_seconds = timeout_seconds
        self._is_known = is_known

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        if since is not None:
            found = self._find(message, since - self._CLOCK_SKEW)
            if found is not None:
                return Receipt(found)
        form = {"To": message.to, "Body": message.text}
        form["MessagingServiceSid" if self._sender.startswith("MG") else "From"] = self._sender
        if self._status_url:
            form["StatusCallback"] = f"{self._status_url}?{urlencode({'record': key})}"
        answer = call(
            lambda seconds: http.post(
                self._messages,
                body=urlencode(form).encode(),
                headers=self._headers | {"content-type": "application/x-www-form-urlencoded"},
                timeout_seconds=seconds,
                allow_private=True,
                max_redirects=0,
                keep_body_bytes=KEEP_BODY_BYTES,
            ),
            self._timeout_seconds,
            repeatable=False,
        )
        code = str(json_of(answer).get("code")) if answer.status == 400 else ""
        if code in DEAD_NUMBERS:
            raise Impossible(reason_of(answer), dead=DEAD_NUMBERS[code])
        check(answer, self.provider)
        return Receipt(text_in(answer, "sid"))

    def _find(self, message: Message, since: datetime) -> str | None:
        """The message that an earlier attempt of ours has made, if it made one."""
        answer = call(
            lambda seconds: http.get(
                f"{self._messages}?{urlencode({'To': message.to, 'PageSize': 100})}",
                headers=self._headers,
                timeout_seconds=seconds,
                allow_private=True,
                keep_body_bytes=_LOOKUP_BYTES,
            ),
            self._timeout_seconds,
            repeatable=True,
        )
        if answer.status == 429:
            raise NotTaken(reason_of(answer), answer)
        if answer.status != 200:
            raise Unclear(f"Twilio cannot say whether it was sent: {reason_of(answer)}")
        try:
            same = [
                str(row["sid"])
                for row in json_of(answer)["messages"]
                if row["body"] == message.text and _created(row) >= since
            ]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise Unclear("Twilio cannot say whether it was sent: its list is not readable") from None
        return next((sid for sid in same if not self._is_known(sid)), None)


def _created(row: Mapping[str, Any]) -> datetime:
    created = parsedate_to_datetime(str(row["date_created"]))
    # -0000, a zone that nobody tells, is read as none; Twilio's times are UTC.
    return created if created.tzinfo is not None else created.replace(tzinfo=UTC)
