"""Email by Resend's HTTP API: one at a time, or up to a hundred in one request."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from fourlane.providers import http
from fourlane.providers.health import Target
from fourlane.providers.messages.call import call, check, json_of, post, reason_of, text_in
from fourlane.providers.messages.message import Impossible, Letter, Message, OneAccount, Receipt, Unclear

__all__ = ["COPIES", "RECORD", "Resend"]

RECORD: Final = "fourlane_record"
"""The tag that has the key of a message. It comes back in each of Resend's reports: they may come before its answer."""
COPIES: Final = "fourlane_copies"
"""The tag of a message that went to others too."""
_MOST_AT_ONCE: Final = 100
_PATIENCE_SECONDS: Final = 2.0
_URGENT_PATIENCE_SECONDS: Final = 20.0
_INVALID: Final = (400, 422)


class Resend(OneAccount):
    """Email by Resend.

    Parameters:
      turn: waits until the account takes one more request, up to so many seconds; else it raises ProviderLimited.
    """

    provider = "resend"
    most_at_once = _MOST_AT_ONCE

    def __init__(
        self,
        api_key: str,
        *,
        sender: str,
        url: str,
        timeout_seconds: float,
        turn: Callable[[Target, float], None] = lambda target, patience_seconds: None,
    ) -> None:
        super().__init__(api_key)
        self._headers = {"authorization": f"Bearer {api_key}"}
        self._sender = sender
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._turn = turn

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        body = self._body(Letter(key, message))
        return self._receipt(self._post("/emails", body, key=f"fourlane/{key}", urgent=message.urgent))

    def send_batch(self, letters: Sequence[Letter], *, key: str) -> list[Receipt | Impossible]:
        """Send up to a hundred without attachments in one request; what became of each.

        Parameters:
          key: the same for the same letters, in the same order.

        Raises as `send`: the same is true of all.
        """
        # Else one that is not valid would be the end of all.
        headers = {"x-batch-validation": "permissive"}
        bodies = [self._body(letter) for letter in letters]
        answer = self._post("/emails/batch", bodies, key=f"fourlane/batch/{key}", urgent=False, headers=headers)
        if answer.status in _INVALID:
            return [Impossible(reason_of(answer)) for _ in letters]
        check(answer, self.provider)
        return _outcomes(answer, len(letters))

    def _body(self, letter: Letter) -> dict[str, Any]:
        message = letter.message
        tags = [{"name": RECORD, "value": letter.key}]
        if message.cc or message.bcc:
            tags.append({"name": COPIES, "value": "1"})
        files = [
            {
                "filename": file.name,
                "content": base64.b64encode(file.data).decode(),
                "content_type": file.media_type,
            }
            for file in message.attachments
        ]
        body = {
            "from": self._sender,
            "to": [message.to],
            "cc": list(message.cc),
            "bcc": list(message.bcc),
            "reply_to": list(message.reply_to),
            "html": message.html,
            "headers": dict(message.headers),
            "attachments": files,
        }
        wanted = {name: value for name, value in body.items() if value}
        return wanted | {"subject": message.subject, "text": message.text, "tags": tags}

    def _post(
        self, path: str, content: Any, *, key: str, urgent: bool, headers: dict[str, str] | None = None
    ) -> http.Response:
        patience = _URGENT_PATIENCE_SECONDS if urgent else _PATIENCE_SECONDS

        def ask(seconds: float) -> http.Response:
            nonlocal patience
            self._turn(self._target, patience)
            # The answer to a request that may have arrived is worth a longer wait.
            patience = _URGENT_PATIENCE_SECONDS
            return post(
                f"{self._url}{path}",
                content,
                headers=self._headers | {"idempotency-key": key} | (headers or {}),
                timeout_seconds=seconds,
            )

        answer = call(ask, self._timeout_seconds, repeatable=True)
        if answer.status == 409 and b"concurrent_idempotent" in answer.body:
            raise Unclear("an earlier attempt is still under way at Resend", down=False)
        if answer.status == 409:
            raise Impossible(f"it was given to Resend before, with another content: {reason_of(answer)}")
        return answer

    def _receipt(self, answer: http.Response) -> Receipt:
        check(answer, self.provider)
        return Receipt(text_in(answer, "id"))


def _outcomes(answer: http.Response, number: int) -> list[Receipt | Impossible]:
    """What became of each: those that are not among the errors have their ids, in their order."""
    content = json_of(answer)
    try:
        refused = {int(one["index"]): str(one.get("message", "")) for one in content.get("errors") or []}
        ids = iter([str(one["id"]) for one in content["data"]])
        told: list[Receipt | Impossible] = [
            Impossible(refused[place]) if place in refused else Receipt(next(ids)) for place in range(number)
        ]
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        raise Unclear(f"HTTP {answer.status}, but its body cannot be read") from None
    if next(ids, None) is not None:
        raise Unclear(f"HTTP {answer.status}, but it has more ids than there were emails")
    return told
