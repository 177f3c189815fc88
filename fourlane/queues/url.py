"""REDIS_URL as other clients write it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from fourlane.errors import SettingsError

__all__ = ["fault_in", "understood"]

_LEFT_OUT: Final = ("family",)  # ioredis: which of IPv4 and IPv6; here both are tried
_CERT: Final = re.compile(r"CERT_(NONE|OPTIONAL|REQUIRED)")  # Celery and Kombu


def understood(url: str) -> str:
    """The same in the words of redis-py. Raises SettingsError: the database is no number."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # who reads it says what is wrong
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdecimal():
        # Not repeated: behind an unescaped / in a password it is a part of that.
        raise SettingsError(
            "REDIS_URL: what follows the host is no number of a database; write redis://USER:PASSWORD@HOST:PORT/0, "
            "with signs such as / and @ in the password as %2F and %40"
        )
    options = parse_qsl(parts.query, keep_blank_values=True)
    if not any(name in _LEFT_OUT or name == "ssl_cert_reqs" for name, _ in options):
        return url
    ours = [(name, _CERT.sub(_lower, value)) for name, value in options if name not in _LEFT_OUT]
    return url.replace(f"?{parts.query}", f"?{urlencode(ours)}")


def fault_in(error: Exception) -> str:
    """What of redis-py's error may be said: no more of its text than a name, for it may hold a part of the password."""
    text = str(error)
    if unknown := re.search(r"unexpected keyword argument '(\w+)'", text):
        return f"its option {unknown[1]} is not known; leave it out"
    if unread := re.search(r"Invalid value for '(\w+)'", text):
        return f"the value of its option {unread[1]} cannot be read; correct it, or leave it out"
    if "SSL Certificate Requirements" in text:
        return "the value of its option ssl_cert_reqs is not known; use none, optional or required"
    return (
        "its port or one of its options cannot be read; write redis://USER:PASSWORD@HOST:PORT/0, "
        "with signs such as / and @ in the password as %2F and %40"
    )


def _lower(found: re.Match[str]) -> str:
    return found[1].lower()
