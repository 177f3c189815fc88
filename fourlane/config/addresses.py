"""What opens the addresses among the settings: logins, values in queries, paths that are secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from fourlane.redact import REDACTED, without_secrets
from fourlane.redact.keys import is_secret

__all__ = ["secrets_in", "without_credentials"]

_ADDRESS: Final = re.compile(r"""[a-zA-Z][a-zA-Z0-9+.-]{0,30}+://[^\s"'<>]+""")
_OPTION: Final = re.compile(r"([?&;])([^=&;#?\s]*)=([^&;#\s]*)")
_FRAGMENT: Final = re.compile(r"#.+", re.DOTALL)
_HARMLESS: Final = frozenset(("endpoint", "region", "db", "sslmode", "api-version", "lang", "locale"))


def without_credentials(text: str) -> str:
    """A text that may be shown: of the addresses in it, nothing that opens them."""
    return without_secrets(_ADDRESS.sub(lambda found: _shown(found[0]), text))


def _shown(address: str) -> str:
    return _OPTION.sub(_show_option, _FRAGMENT.sub(f"#{REDACTED}", without_secrets(address)))


def _show_option(found: re.Match[str]) -> str:
    sign, name, value = found.groups()
    return f"{sign}{name}={value if name.lower() in _HARMLESS else REDACTED}"


def secrets_in(address: str) -> Iterator[str]:
    """What opens an address, as it stands there and as it is meant."""
    try:
        parts = urlsplit(address)
        login = parts.password or (parts.username if parts.hostname else None)
    except ValueError:
        return
    yield from _spelled(login or "")
    for name, value in _options(parts):
        if is_secret(name, value):
            yield from _spelled(value)


def _options(parts: SplitResult) -> list[tuple[str, str]]:
    try:
        return parse_qsl(parts.query)
    except ValueError:
        return []


def _spelled(text: str) -> Iterator[str]:
    if text:
        yield text
        yield unquote(text)
