"""A notification as a provider gets it: its words, its link for unsubscribing, its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from fourlane.errors import InvalidArguments, Reject
from fourlane.tasks.notifications.notification import InvalidNotification, Notification
from fourlane.tasks.notifications.setup import setup

if TYPE_CHECKING:
    from fourlane.providers.messages import Attachment, Message
    from fourlane.tasks.notifications.records import Order

__all__ = ["check_words", "message_of", "with_items"]

_MOST_FILE_BYTES: Final = 25 << 20  # as most mailboxes take; Resend takes 40 MB in base64
_ANY_TYPE: Final = [f"{kind}/*" for kind in ("application", "audio", "font", "image", "message", "text", "video")]


def check_words(notification: Notification) -> None:
    """Raises InvalidNotification for what can be known to be wrong before it is sent."""
    if notification.template:
        sample = notification if not notification.digest else with_items(notification, [notification.data])
        setup().templates().words(sample, {"unsubscribe_url": ""})
    for file in notification.attachments:
        try:
            setup().inputs().check(file.source, tenant=str(notification.organization_id or ""))
        except InvalidArguments as error:
            raise InvalidNotification(f"attachment: {error}") from None


def with_items(notification: Notification, items: list[dict[str, Any]]) -> Notification:
    """A digest that is sent."""
    return msgspec.structs.replace(notification, data={"items": items})


def message_of(order: Order, *, urgent: bool = False) -> Message:
    """What the provider gets.

    Raises:
      InvalidNotification: it can never be sent.
      InputUnavailable, StorageUnavailable: a file cannot be read now.
    """
    from fourlane.providers.messages import Link, Message

    notification = order.notification
    link = setup().unsubscribe_url(order.channel, notification, order.tenant)
    words = setup().templates().words(notification, {"unsubscribe_url": link})
    headers = {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} if link else {}
    return Message(
        to=notification.to,
        subject=words.subject,
        text=words.text,
        html=words.html,
        headers=headers if order.channel == "email" else {},
        reply_to=notification.reply_to,
        cc=notification.cc,
        bcc=notification.bcc,
        attachments=_attachments(order),
        urgent=notification.urgent or urgent,
        severity=notification.severity,
        source=notification.source,
        details=notification.details,
        incident=notification.incident,
        resolved=notification.resolved,
        links=[Link(one.href, one.text) for one in notification.links],
    )


def _attachments(order: Order) -> list[Attachment]:
    from fourlane.providers.messages import Attachment

    files: list[Attachment] = []
    left = _MOST_FILE_BYTES
    for file in order.notification.attachments:
        try:
            blob = setup().inputs().read_now(file.source, allowed=_ANY_TYPE, most_bytes=left, tenant=order.tenant)
        except Reject as error:
            raise InvalidNotification(f"attachment: {error}") from None
        left -= len(blob.data)
        files.append(Attachment(file.name or blob.name, blob.media_type, blob.data))
    return files
