"""The lines that deliveries wait in (queues/lines.py): their names, and how many of each are delivered at once.

A receiver, an endpoint and an organization have a line each, over all workers; so has each key of an endpoint that is
``ordered``. Organizations are part of the names: one cannot close or fill a line that another waits in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from fourlane.config import plain
from fourlane.queues.lines import Line
from fourlane.root import Root, root

__all__ = ["Shares", "endpoint_line", "lines_of_delivery", "lines_to_endpoint", "receiver_line", "receiver_of"]

_PORTS: Final = {"http": 80, "https": 443}
_READABLE: Final = 40
_is_name: Final = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


@dataclass(frozen=True, slots=True)
class Shares:
    """How many deliveries at once."""

    of_tenant: int
    to_receiver: int


def lines_of_delivery(args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> list[Line]:
    """Of `deliver`: its receiver's, within an organization, and the organization's own."""
    shares, tenant = root().part(_shares_of), str(options.get("tenant") or "")
    url = args[0] if args else kwargs.get("url", "")
    receiver = Line(receiver_line(url, tenant), shares.to_receiver)
    return [receiver, Line(_tenant_line(tenant), shares.of_tenant)] if tenant else [receiver]


def lines_to_endpoint(args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> list[Line]:
    """Of `deliver_to_endpoint`, by its keyword arguments: its key's, the endpoint's, the organization's."""
    endpoint, order, tenant = kwargs.get("endpoint_id"), kwargs.get("order"), str(options.get("tenant") or "")
    if not endpoint:
        return []
    lines = [Line(f"o:{endpoint}:{order}", 1, ordered=True)] if order else []
    lines.append(Line(endpoint_line(endpoint), int(kwargs.get("places", 1))))
    if tenant:
        lines.append(Line(_tenant_line(tenant), root().part(_shares_of).of_tenant))
    return lines


def endpoint_line(endpoint_id: str) -> str:
    return f"e:{endpoint_id}"


def receiver_line(url: Any, tenant: str) -> str:
    receiver = receiver_of(url)
    return f"r:{re.sub('[^a-z0-9.-]', '_', receiver)[:_READABLE]}:{digest(tenant, receiver)}"


def _tenant_line(tenant: str) -> str:
    return f"t:{tenant}" if _is_name(tenant) else f"t::{digest(tenant)}"


def receiver_of(url: Any) -> str:
    """Host and port, however they are written; of what is no URL, nothing."""
    try:
        parts = urlsplit(str(url))
        return f"{(parts.hostname or '').rstrip('.')}:{parts.port or _PORTS.get(parts.scheme, 0)}"
    except ValueError:
        return ""


def digest(*texts: str) -> str:
    """Of texts of strangers, who must not be able to name each other's lines."""
    parts = (f"{len(text)}:{text}".encode("utf-8", "surrogatepass") for text in texts)
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]


def _shares_of(of: Root) -> Shares:
    """A part. Programs that only send do without the settings where these can be known without them."""
    known = None if of.has_settings else plain.read()
    said = known or of.settings
    return Shares(said.webhook_tenant_concurrency, said.webhook_receiver_concurrency)
