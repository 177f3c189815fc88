"""What Kubernetes sets in each pod for a Service whose name begins like our variables."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_address", "is_service_link"]

_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://[0-9a-fA-F.:\[\]]+:\d+")
# Names, and the values they have.
_SERVICE_LINKS: Final = (
    (re.compile(r"\w+_SERVICE_HOST|\w+_PORT_\d+_(TCP|UDP|SCTP)_ADDR"), re.compile(r"[0-9a-fA-F.:]+")),
    (re.compile(r"\w+_SERVICE_PORT(_\w+)?|\w+_PORT_\d+_(TCP|UDP|SCTP)_PORT"), re.compile(r"\d+")),
    (re.compile(r"\w+_PORT(_\d+_(TCP|UDP|SCTP))?"), _ADDRESS),
    (re.compile(r"\w+_PORT_\d+_(TCP|UDP|SCTP)_PROTO"), re.compile(r"tcp|udp|sctp")),
)


def is_service_link(name: str, value: str) -> bool:
    return any(named.fullmatch(name) and valued.fullmatch(value) for named, valued in _SERVICE_LINKS)


def is_address(value: str) -> bool:
    """Such as it sets where we look for a port."""
    return _ADDRESS.fullmatch(value) is not None
