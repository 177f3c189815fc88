"""What enqueuing needs of the settings, where little is set: `load_settings` takes longer than all else of a start.

Only what is certainly right is read here. The rest, above all every fault, is for `load_settings` to tell.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from fourlane.config.folder import from_start
from fourlane.errors import InvalidName
from fourlane.names import check_service

__all__ = ["Plain", "read"]

_PREFIX: Final = "FOURLANE_"
_ENVIRONMENTS: Final = ("local", "staging", "production")
_SCHEMES: Final = ("redis://", "rediss://", "unix://")


class Plain(NamedTuple):
    """Settings by their names; all others have their defaults."""

    redis_url: str
    environment: str = "local"
    namespace: str = "fourlane"
    service: str = "default"
    webhook_tenant_concurrency: int = 100
    webhook_receiver_concurrency: int = 20


def read() -> Plain | None:
    """None: there is a file, or more is set, or something else than is plainly right."""
    found = {name.upper(): value for name, value in os.environ.items()}
    url = found.get("REDIS_URL", "")
    said: dict[str, Any] = {
        name.removeprefix(_PREFIX).lower(): value for name, value in found.items() if name.startswith(_PREFIX)
    }
    if not url.startswith(_SCHEMES) or said.keys() - {"environment", "namespace", "service"}:
        return None
    plain = Plain(url, **said)
    if plain.environment not in _ENVIRONMENTS or from_start(Path(f".env.{plain.environment}")).exists():
        return None
    if not (plain.namespace.isascii() and plain.namespace.isalnum() and len(plain.namespace) < 64):
        return None
    try:
        check_service(plain.service)
    except InvalidName:
        return None
    return plain
