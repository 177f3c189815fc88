"""The link by which a recipient says no more, without a login. It is sealed, and it is the same in every attempt."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import uuid
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from fourlane import crypto
from fourlane.errors import FourlaneError
from fourlane.tasks.notifications.notification import CHANNELS, Channel, Notification, address_of

__all__ = ["InvalidLink", "Wish", "link", "read"]

_CONTEXT: Final = "notifications.unsubscribe"
_SEAL_CHARACTERS: Final = 32


class InvalidLink(FourlaneError, ValueError):
    """The link was not made by us, or was changed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants no more of what."""

    channel: Channel
    category: str
    user_id: uuid.UUID | None
    address: str
    tenant: str = ""
    """Whose messages; empty for those of all."""


def link(page: str, channel: Channel, notification: Notification, tenant: str = "") -> str:
    """The address of the page for this tenant, recipient and category.

    Parameters:
      page: the page's address; empty when there is none, and then there is no link.
    """
    if not page or notification.required:
        return ""
    who = str(notification.user_id or "")
    address = "" if who else address_of(channel, notification.to)
    about = [channel, notification.category, who, address, *([tenant] if tenant else [])]
    text = json.dumps(about, separators=(",", ":"))
    seal = crypto.keyring().marks(text.encode(), _CONTEXT)[0][:_SEAL_CHARACTERS]
    token = f"{base64.urlsafe_b64encode(text.encode()).decode().rstrip('=')}.{seal}"
    return f"{page}{'&' if '?' in page else '?'}{urlencode({'token': token})}"


def read(token: str) -> Wish:
    """What a link's token says. Raises InvalidLink."""
    body, _, seal = token.partition(".")
    try:
        text = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidLink("this link is not complete") from None
    seals = [mark[:_SEAL_CHARACTERS] for mark in crypto.keyring().marks(text, _CONTEXT)]
    if not any(hmac.compare_digest(one.encode(), seal.encode()) for one in seals):
        raise InvalidLink("this link was not made here")
    channel, category, who, address, *tenant = json.loads(text)
    assert channel in CHANNELS
    return Wish(channel, category, uuid.UUID(who) if who else None, address, *tenant)
