"""What can be sent to whom: one notification, checked. Pure."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from fourlane.errors import FourlaneError

__all__ = ["CHANNELS", "Channel", "File", "InvalidNotification", "Link", "Notification", "address_of", "checked"]

Channel = Literal["email", "sms", "push", "slack", "pagerduty"]
Severity = Literal["critical", "error", "warning", "info"]
CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)
_TO_PERSONS: Final = ("email", "sms", "push")

_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]")
_PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_TEMPLATE: Final = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*")
_LOCALE: Final = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8})*")
_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_FILE_NAME: Final = re.compile(r'[^/\\:*?"<>|]{1,150}')
_LINK: Final = re.compile(r"https?://[^\s<>|]{1,2000}")
_MOST_ADDRESSES: Final = 50  # Resend's bound, `to` among them
_MOST_FILES: Final = 20
_MOST_LINKS: Final = 20


class InvalidNotification(FourlaneError, ValueError):
    """The notification can never be sent as it is."""


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that goes with an email.

    Parameters:
      source: ``storage:…``, ``https://…``, ``data:…`` for a small one, or a path in the folder FOURLANE_FILES_DIR.
      name: how the recipient sees it, with its suffix; without it, the source's.
    """

    source: str
    name: str = ""


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an alert leads to."""

    href: str
    text: str = ""


class Notification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One message to one person, or an alert.

    Give a ``template`` and its ``data``, or the words themselves.

    Parameters:
      to: an email address; a phone number as ``+4915112345678``; a push subscription as browsers give it
        (``{"endpoint": …, "keys": {"p256dh": …, "auth": …}}``). Slack and PagerDuty need none.
      template: the name of files in the folder of templates.
      data: the template's variables.
      subject, text, html: the words, in place of a template.
      locale: which language's template, e.g. ``de-AT``; it falls back to ``de``, then to the one without.
      category: what preferences and unsubscribing go by, e.g. ``newsletter``.
      user_id: whose preferences, quiet hours and limits count; none of them do without it.
      organization_id: on whose behalf.
      dedup_key: of notifications to one recipient on one channel with the same key, one is sent.
      urgent: sent in quiet hours and over the user's limit too.
      required: sent to those too who have unsubscribed, such as a new password; not to addresses that bounced.
      digest: notifications to one recipient with this word are collected, and sent as one. The template is given
        ``items``, a list of the ``data`` of each.
      digest_seconds: how long they are collected from the first one on.
      reply_to, cc, bcc: more addresses of an email. Nobody asks what those of copies want: they get what ``to`` gets.
      attachments: files that go with an email, 25 MB in all.
      severity, source, details: of alerts; ``details`` goes to the browser with a push message too.
      incident: alerts with the same incident are one to PagerDuty.
      resolved: the incident is over.
      links: of an alert, e.g. to a runbook.
    """

    to: str | dict[str, Any] | None = None
    template: str = ""
    data: dict[str, Any] = {}
    subject: str = ""
    text: str = ""
    html: str = ""
    locale: str = ""
    category: str = "general"
    user_id: uuid.UUID | None = None
    organization_id: uuid.UUID | None = None
    dedup_key: str = ""
    urgent: bool = False
    required: bool = False
    digest: str = ""
    digest_seconds: int = 3_600
    reply_to: list[str] = []
    cc: list[str] = []
    bcc: list[str] = []
    attachments: list[File] = []
    severity: Severity = "error"
    source: str = ""
    details: dict[str, Any] = {}
    incident: str = ""
    resolved: bool = False
    links: list[Link] = []

    def fields(self) -> dict[str, Any]:
        """As arguments of a job: what is not the default."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


def checked(channel: str, fields: Mapping[str, Any]) -> Notification:
    """The notification of a job's arguments. Raises InvalidNotification, with all that is wrong in a line."""
    if channel not in CHANNELS:
        raise InvalidNotification(f"{channel!r} is no channel; use {', '.join(CHANNELS)}")
    try:
        notification = msgspec.convert(fields, Notification)
    except msgspec.ValidationError as error:
        raise InvalidNotification(str(error)) from None
    told = (_address_fault(channel, notification.to), *_faults(notification), *_email_faults(channel, notification))
    faults = [fault for fault in told if fault]
    if faults:
        raise InvalidNotification("; ".join(faults))
    return notification


def _faults(notification: Notification) -> list[str]:
    n = notification
    return [
        "" if n.template or n.text or n.subject else "there is neither a template nor a text",
        "give a template or a text, not both" if n.template and (n.text or n.html or n.subject) else "",
        f"{n.template!r} is no template's name" if n.template and not _TEMPLATE.fullmatch(n.template) else "",
        f"{n.locale!r} is no locale; write it as de or de-AT" if n.locale and not _LOCALE.fullmatch(n.locale) else "",
        "" if _WORD.fullmatch(n.category) else f"{n.category!r} is no category; use letters, digits and ._:-",
        f"{n.digest!r} is no digest's name" if n.digest and not _WORD.fullmatch(n.digest) else "",
        "a digest needs a template, which is given its items" if n.digest and not n.template else "",
        *(f"{link.href[:100]!r} is no link" for link in n.links if not _LINK.fullmatch(link.href)),
        "" if len(n.links) <= _MOST_LINKS else f"there are at most {_MOST_LINKS} links",
        "" if 1 <= n.digest_seconds <= 2_592_000 else f"digest_seconds is {n.digest_seconds}; use 1 to 2592000",
    ]


def _email_faults(channel: str, notification: Notification) -> list[str]:
    n = notification
    more = [*n.reply_to, *n.cc, *n.bcc]
    if channel != "email":
        return ["only an email has reply_to, cc, bcc and attachments" if more or n.attachments else ""]
    return [
        *(f"{one!r} is no email address" for one in more if not _is_email(one)),
        "" if len(n.cc) + len(n.bcc) < _MOST_ADDRESSES else f"an email goes to at most {_MOST_ADDRESSES} addresses",
        "" if len(n.reply_to) <= _MOST_ADDRESSES else "there are too many addresses in reply_to",
        "" if len(n.attachments) <= _MOST_FILES else f"an email has at most {_MOST_FILES} attachments",
        *(
            f"{file.name!r} is no name of a file"
            for file in n.attachments
            if file.name and not (_FILE_NAME.fullmatch(file.name) and file.name.isprintable())
        ),
        "a digest has no attachments and copies" if n.digest and (n.attachments or n.cc or n.bcc) else "",
    ]


def _address_fault(channel: str, to: Any) -> str:
    if channel not in _TO_PERSONS:
        return "" if to is None else f"{channel} has one destination, which settings give; leave `to` out"
    if channel == "push":
        return "" if isinstance(to, dict) and _is_subscription(to) else "`to` is no push subscription"
    if not isinstance(to, str) or not to:
        return f"`to` is missing; {channel} needs {'an address' if channel == 'email' else 'a phone number'}"
    if channel == "email":
        return "" if _is_email(to) else f"{to!r} is no email address"
    return "" if _PHONE.fullmatch(to) else f"{to!r} is no phone number; write it as +4915112345678"


def _is_email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    try:
        domain = domain.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return bool(
        at
        and len(text) <= 254
        and len(local) <= 64
        and _LOCAL_PART.fullmatch(local)
        and len(domain) <= 253
        and _DOMAIN.fullmatch(domain)
    )


def _is_subscription(to: Mapping[str, Any]) -> bool:
    keys = to.get("keys")
    if not isinstance(keys, dict) or not isinstance(to.get("endpoint"), str):
        return False
    try:
        parts = urlsplit(to["endpoint"])
        public, auth = (_decoded(keys[name]) for name in ("p256dh", "auth"))
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname) and len(public) == 65 and len(auth) == 16


def _decoded(text: str) -> bytes:
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def address_of(channel: str, to: Any) -> str:
    """The address in the one form that is kept and compared; empty for alerts."""
    if to is None:
        return ""
    if channel == "push":
        return str(to["endpoint"])
    return str(to).lower()
