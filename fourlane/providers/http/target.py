"""Which URLs and headers we send a request with, and which redirects it follows. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

import httpx

from fourlane.providers.http.addresses import host_fault
from fourlane.providers.http.errors import TargetRefused

__all__ = ["FOLLOWING", "check_host", "check_url", "checked_headers", "checked_url", "origin", "redirect"]

_LABEL = rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rb"(?=.{1,253}\Z)%b(?:\.%b)*\.?" % (_LABEL, _LABEL))

# What keeps method and body; and what asks for a GET, which a GET is already.
_REDIRECTS: Final = {"POST": (307, 308), "GET": (301, 302, 303, 307, 308)}
FOLLOWING: Final = frozenset(
    {b"accept", b"accept-language", b"content-encoding", b"content-language", b"content-type", b"user-agent"}
    | {b"webhook-id", b"webhook-timestamp"}
)
"""Headers that a redirect takes to another origin. Whatever else a caller gives may be a secret of the first one's."""
# These frame the message or choose a virtual host, so a caller's value could undo the guard.
_OURS: Final = frozenset(
    {b"accept-encoding", b"connection", b"content-length", b"expect", b"host", b"keep-alive"}
    | {b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)


def checked_url(url: str | httpx.URL) -> httpx.URL:
    """Raises TargetRefused."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise TargetRefused("the URL is malformed") from None
    if parsed.scheme not in ("http", "https"):
        raise TargetRefused("the URL must begin with http:// or https://")
    if parsed.userinfo:
        raise TargetRefused("the URL must not carry a user name or password")
    if not _is_plain_host(parsed.raw_host):
        raise TargetRefused("the URL's host is malformed")
    if not _is_web_port(parsed.port):
        raise TargetRefused(f"port {parsed.port} is not allowed: use 80, 443 or one above 1023")
    return parsed


def check_url(url: str, *, allow_private: bool) -> None:
    """What can be said of a URL before it is called, and costs nothing. Raises TargetRefused."""
    check_host(checked_url(url), allow_private=allow_private)


def check_host(url: httpx.URL, *, allow_private: bool) -> None:
    """Refuse a host that is written as an address which must not be called. Raises TargetRefused."""
    fault = host_fault(url.host, allow_private=allow_private)
    if fault is not None:
        raise TargetRefused(f"{url.host} is {fault}", private=host_fault(url.host, allow_private=True) is None)


def _is_plain_host(host: bytes) -> bool:
    if b":" not in host:
        return _HOST_NAME.fullmatch(host) is not None
    try:
        return ipaddress.IPv6Address(host.decode("ascii")).scope_id is None
    except ValueError:
        return False


def _is_web_port(port: int | None) -> bool:
    # Below 1024 live SMTP, SSH and others that could be made to obey the lines of an HTTP request.
    return port in (None, 80, 443) or (port is not None and 1024 <= port <= 65535)


def checked_headers(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    """What is sent of them, and who we are. Raises TargetRefused."""
    try:
        given = {name.lower().encode("ascii"): value.encode("latin-1") for name, value in headers.items()}
    except UnicodeEncodeError:
        raise TargetRefused("a header is malformed") from None  # its text might be a credential
    return {b"user-agent": b"fourlane"} | {name: value for name, value in given.items() if name not in _OURS}


def redirect(method: str, url: httpx.URL, status: int, location: str | None) -> httpx.URL | None:
    """Where to send the same once more; None when the answer does not say so."""
    if status not in _REDIRECTS[method] or not location:
        return None
    try:
        following = checked_url(url.join(location))
    except httpx.InvalidURL:
        raise TargetRefused("redirected to a malformed URL") from None
    except TargetRefused as refused:
        raise TargetRefused(f"redirected: {refused}") from None
    if url.scheme == "https" and following.scheme == "http":
        raise TargetRefused("redirected from https to http")
    return following


def origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    """Whom secrets are for."""
    return url.scheme, url.raw_host, url.port
