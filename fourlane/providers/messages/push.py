"""Push messages to browsers."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from fourlane.errors import SettingsError
from fourlane.providers import http
from fourlane.providers.health import Target
from fourlane.providers.messages.call import call, check, reason_of
from fourlane.providers.messages.message import Impossible, Message, Receipt

__all__ = ["WebPush"]


class WebPush:
    """Push to browsers: encrypted for the browser (RFC 8291), signed by our VAPID key (RFC 8292).

    Raises SettingsError for a key that is none.
    """

    provider = "webpush"
    _KEEP_SECONDS: Final = 86_400
    _TOKEN_SECONDS: Final = 43_200

    def __init__(self, private_key: str, *, contact: str, allow_private: bool, timeout_seconds: float) -> None:
        try:
            import py_vapid
        except ModuleNotFoundError as error:
            raise SettingsError(f"push needs the package {error.name}; pip install 'fourlane[notifications]'") from None
        try:
            self._vapid = py_vapid.Vapid.from_string(private_key)
        except Exception:  # its text may hold the key
            raise SettingsError(
                "FOURLANE_VAPID_PRIVATE_KEY is no VAPID key; docs/notifications.md says how to make one"
            ) from None
        self._contact = contact
        self._allow_private = allow_private
        self._timeout_seconds = timeout_seconds

    def target(self, message: Message) -> Target:
        # Each browser's maker has push services of their own; one that is down must not stop the others.
        return Target(self.provider, urlsplit(message.to["endpoint"]).hostname or "")

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        import pywebpush

        endpoint = message.to["endpoint"]
        parts = urlsplit(endpoint)
        # The tag makes the browser show a repeated message in the place of the first.
        content = {"title": message.subject, "body": message.text, "tag": key, "data": dict(message.details)}
        try:
            sealed = pywebpush.WebPusher(message.to).encode(json.dumps(content).encode(), "aes128gcm")
        except Exception as error:
            raise Impossible(f"the subscription's keys cannot be used: {type(error).__name__}") from None
        claims = {
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": int(time.time()) + self._TOKEN_SECONDS,
            "sub": self._contact,
        }
        headers = {
            **self._vapid.sign(claims),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(self._KEEP_SECONDS),
            "urgency": "high" if message.urgent else "normal",
            # 32 base64url characters at most; messages of one topic replace each other at the push service.
            "topic": base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()[:24]).decode(),
        }
        answer = call(
            lambda seconds: http.post(
                endpoint,
                body=sealed["body"],
                headers=headers,
                timeout_seconds=seconds,
                allow_private=self._allow_private,
                max_redirects=0,
            ),
            self._timeout_seconds,
            repeatable=True,
            private_by="FOURLANE_PUSH_ALLOW_PRIVATE",
        )
        if answer.status in (404, 410):
            raise Impossible(f"the subscription has ended: {reason_of(answer)}", dead="bounce")
        check(answer, self.provider)
        return Receipt(answer.headers.get("location", ""))
