"""Whom to call and as whom; one client for each event loop and account.

The SDKs' own retries are off: retries and limits are those of ``fourlane.providers.health``, shared by all workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fourlane.errors import Reject

__all__ = ["BASE_URLS", "LIKE_OPENAI", "Account", "Protocol", "aclose", "client", "http", "streamed"]

Protocol = Literal["responses", "chat", "anthropic", "google"]

BASE_URLS: Final[dict[str, str | None]] = {
    "openai": None,
    "anthropic": None,
    "google": "https://generativelanguage.googleapis.com",
    "perplexity": "https://api.perplexity.ai",
    "openrouter": "https://openrouter.ai/api/v1",
}
"""The providers, with the address where the SDK's own is not the one."""
LIKE_OPENAI: Final = frozenset({"openai", "perplexity", "openrouter"})
"""Those that are called by OpenAI's SDK."""
_PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "openai": "responses",
    "perplexity": "responses",
    "anthropic": "anthropic",
    "google": "google",
}
_CONNECT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Account:
    """Where and as whom to call a provider.

    Parameters:
      timeout_seconds: for the connection. How long an answer may be silent is for the caller to watch.
      protocol: of its conversations, where it speaks OpenAI's: ``responses`` or ``chat``, which many gateways speak
        alone. None: the provider's own.
    """

    provider: str
    api_key: str
    base_url: str | None
    timeout_seconds: float
    protocol: Literal["responses", "chat"] | None = None

    @property
    def speaks(self) -> Protocol:
        """The protocol of its conversations."""
        return self.protocol or _PROTOCOLS.get(self.provider, "chat")

    def __repr__(self) -> str:
        return f"Account({self.provider!r})"


_Key = tuple[asyncio.AbstractEventLoop, Account]
_clients: dict[_Key, Any] = {}
_https: dict[_Key, Any] = {}
_addresses: dict[_Key, Any] = {}


def client(account: Account) -> Any:
    """The SDK's client: its connections are used again. Raises Reject: the SDK is not installed."""
    return _kept(_clients, account, _open)


def http(account: Account) -> Any:
    """The HTTP client beneath. Google is called by it alone: its SDK makes objects of each event, at a great cost."""
    return _kept(_https, account, _open_http)


async def streamed(account: Account, path: str, *, body: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
    """Begin an answer as OpenAI's or Anthropic's SDK does: at its address, with its headers, and its errors.

    Their own methods take four times as long: they check each field of the request and of each event. So the answer is
    that of the HTTP client; close it. Raises what the SDK would, and of a broken connection what the HTTP client does.
    """
    plain, (url, own) = http(account), _kept(_addresses, account, _address)
    sent = plain.build_request("POST", url + path, json=body, headers={**own, **headers})
    response = await plain.send(sent, stream=True)
    if response.status_code >= 400:
        try:
            await response.aread()
        finally:
            await response.aclose()
        raise client(account)._make_status_error_from_response(response)
    return response


async def aclose() -> None:
    """Close this event loop's clients; a program that goes on should, before it ends the loop."""
    loop = asyncio.get_running_loop()
    for clients in (_clients, _https, _addresses):
        for key in [key for key in clients if key[0] is loop]:
            opened = clients.pop(key)
            if clients is _https:  # the SDKs' clients have theirs from here
                await opened.aclose()


def _kept(clients: dict[_Key, Any], account: Account, opens: Callable[[Account], Any]) -> Any:
    key = (asyncio.get_running_loop(), account)
    found = clients.get(key)
    if found is None:
        for gone in [known for known in clients if known[0].is_closed()]:
            clients.pop(gone, None)
        try:
            found = clients[key] = opens(account)
        except ModuleNotFoundError as error:
            raise Reject(f"AI calls need the package {error.name}; pip install 'fourlane[ai]'") from None
    return found


def _open(account: Account) -> Any:
    if account.provider == "google":
        from google import genai
        from google.genai import types

        # The key goes as a header; v1beta is what carries system instructions. Its own clients of HTTP end an answer
        # after a time in all, or have a hundred connections at most.
        options = types.HttpOptions(base_url=account.base_url, api_version="v1beta", httpx_async_client=http(account))
        return genai.Client(api_key=account.api_key, http_options=options)
    given: Mapping[str, Any] = {
        "api_key": account.api_key,
        "base_url": account.base_url,
        "http_client": http(account),
        "max_retries": 0,
    }
    if account.provider == "anthropic":
        import anthropic

        return anthropic.AsyncAnthropic(**given)
    import openai

    return openai.AsyncOpenAI(**given)


def _address(account: Account) -> tuple[str, dict[str, str]]:
    """Where the SDK calls, and the headers that it sends with each call."""
    sdk = client(account)
    headers = {**sdk.auth_headers, **sdk.default_headers}
    return str(sdk.base_url).rstrip("/"), {name: value for name, value in headers.items() if isinstance(value, str)}


def _open_http(account: Account) -> Any:
    import httpx2

    from fourlane.providers.ai.lanes import open_http

    # For connecting alone: answers are silent while a model thinks, and whoever calls watches that.
    timeout = httpx2.Timeout(None, connect=min(account.timeout_seconds, _CONNECT_SECONDS))
    return open_http(timeout, base_url=account.base_url or "")
