"""Whom to call and as whom; one client of each provider's own SDK for each event loop and account.

The SDKs' own retries are off: retries and limits are those of ``fourlane.providers.health``, shared by all workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fourlane.errors import Reject

__all__ = ["BASE_URLS", "LIKE_OPENAI", "Account", "aclose", "client"]

BASE_URLS: Final[dict[str, str | None]] = {
    "openai": None,
    "anthropic": None,
    "google": None,
    "perplexity": "https://api.perplexity.ai",
    "openrouter": "https://openrouter.ai/api/v1",
}
"""The providers, with the address where the SDK's own is not the one."""
LIKE_OPENAI: Final = frozenset({"openai", "perplexity", "openrouter"})
"""Those that are called by OpenAI's SDK."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where and as whom to call a provider.

    Parameters:
      timeout_seconds: for the connection and between two reads of it.
    """

    provider: str
    api_key: str
    base_url: str | None
    timeout_seconds: float

    def __repr__(self) -> str:
        return f"Account({self.provider!r})"


_clients: dict[tuple[asyncio.AbstractEventLoop, Account], Any] = {}


def client(account: Account) -> Any:
    """The SDK's client: its connections are used again. Raises Reject: the SDK is not installed."""
    key = (asyncio.get_running_loop(), account)
    found = _clients.get(key)
    if found is None:
        for gone in [known for known in _clients if known[0].is_closed()]:
            _clients.pop(gone, None)
        found = _clients[key] = _open(account)
    return found


async def aclose() -> None:
    """Close this event loop's clients; a program that goes on should, before it ends the loop."""
    loop = asyncio.get_running_loop()
    for key in [key for key in _clients if key[0] is loop]:
        opened = _clients.pop(key)
        await (opened.aio.aclose() if key[1].provider == "google" else opened.close())


def _open(account: Account) -> Any:
    try:
        if account.provider == "google":
            from google import genai
            from google.genai import types

            # The key goes as a header; v1beta is what carries system instructions.
            options = types.HttpOptions(
                base_url=account.base_url, api_version="v1beta", timeout=int(account.timeout_seconds * 1000)
            )
            return genai.Client(api_key=account.api_key, http_options=options)
        given: Mapping[str, Any] = {
            "api_key": account.api_key,
            "base_url": account.base_url,
            "timeout": account.timeout_seconds,
            "max_retries": 0,
        }
        if account.provider == "anthropic":
            import anthropic

            return anthropic.AsyncAnthropic(**given)
        import openai

        return openai.AsyncOpenAI(**given)
    except ModuleNotFoundError as error:
        raise Reject(f"AI calls need the package {error.name}; pip install 'fourlane[ai]'") from None
