"""Calls to AI providers through their own SDKs; each answer in one form, streamed where the provider streams.

OpenAI, Perplexity and OpenRouter speak one protocol (``openai``), Anthropic and Google their own. The SDKs' own
retries are off: retries and limits are those of ``fourlane.providers.health``, shared by all workers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fourlane.errors import FourlaneError, Reject
from fourlane.providers.health import Signal, signal_of_status

__all__ = [
    "BASE_URLS",
    "Account",
    "Answer",
    "CutStream",
    "Refused",
    "aclose",
    "ask",
    "image",
    "read_error",
    "transcribe",
]

BASE_URLS: Final[dict[str, str | None]] = {
    "openai": None,
    "anthropic": None,
    "google": None,
    "perplexity": "https://api.perplexity.ai",
    "openrouter": "https://openrouter.ai/api/v1",
}
"""The providers, with the address where the SDK's own is not the one."""


class CutStream(FourlaneError):
    """The answer broke off before its end."""


class Refused(Reject):
    """The provider refuses the content. It may have been paid for."""

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Account:
    """Where and as whom to call a provider."""

    provider: str
    api_key: str
    base_url: str | None
    timeout_seconds: float

    def __repr__(self) -> str:
        return f"Account({self.provider!r})"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Tokens as the provider counts them; 0 where it said nothing."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    finish: str = ""
    seconds: float = 0.0
    """Of audio that was transcribed."""


async def ask(
    account: Account,
    model: str,
    prompt: str,
    *,
    system: str | None,
    max_tokens: int,
    on_text: Callable[[str], None],
    idempotency_key: str,
) -> Answer:
    """Ask a model, streamed.

    Parameters:
      on_text: gets each piece of the text as it comes.
      idempotency_key: sent where the SDK has a place for it.

    Raises:
      Refused: the content was refused.
      CutStream: the answer broke off.
      whatever the SDK raises; ``read_error`` tells what it means.
    """
    speak = {"anthropic": _anthropic, "google": _google}.get(account.provider, _openai)
    answer = await speak(account, model, prompt, system, max_tokens, on_text, idempotency_key)
    if answer.finish.lower() in _REFUSALS:
        raise Refused(f"{account.provider}/{model} refused the content ({answer.finish})", answer)
    if not answer.finish:
        raise CutStream(f"{account.provider}/{model}: the answer broke off")
    return answer


_REFUSALS: Final = frozenset({"content_filter", "refusal", "safety", "prohibited_content", "blocklist", "spii"})


async def _openai(
    account: Account,
    model: str,
    prompt: str,
    system: str | None,
    max_tokens: int,
    on_text: Callable[[str], None],
    idempotency_key: str,
) -> Answer:
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    parts: list[str] = []
    finish, used = "", (0, 0)
    stream = await _client(account).chat.completions.create(
        model=model,
        messages=messages,
        max_tokens=max_tokens,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"Idempotency-Key": idempotency_key},
    )
    async with stream:
        async for chunk in stream:
            if chunk.usage is not None:
                used = (chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
            for choice in chunk.choices or ():
                if getattr(choice.delta, "refusal", None):
                    finish = "refusal"
                if choice.delta.content:
                    parts.append(choice.delta.content)
                    on_text(choice.delta.content)
                finish = finish or choice.finish_reason or ""
    return Answer("".join(parts), *used, finish)


async def _anthropic(
    account: Account,
    model: str,
    prompt: str,
    system: str | None,
    max_tokens: int,
    on_text: Callable[[str], None],
    idempotency_key: str,
) -> Answer:
    given: dict[str, Any] = {"system": system} if system else {}
    parts: list[str] = []
    finish, tokens_in, tokens_out = "", 0, 0
    stream = await _client(account).messages.create(
        model=model,
        max_tokens=max_tokens,
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        extra_headers={"Idempotency-Key": idempotency_key},
        **given,
    )
    async with stream:
        async for event in stream:
            if event.type == "message_start":
                tokens_in = event.message.usage.input_tokens or 0
            elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                parts.append(event.delta.text)
                on_text(event.delta.text)
            elif event.type == "message_delta":
                finish = event.delta.stop_reason or ""
                tokens_out = event.usage.output_tokens or 0
    return Answer("".join(parts), tokens_in, tokens_out, finish)


async def _google(
    account: Account,
    model: str,
    prompt: str,
    system: str | None,
    max_tokens: int,
    on_text: Callable[[str], None],
    idempotency_key: str,
) -> Answer:
    config: dict[str, Any] = {"max_output_tokens": max_tokens}
    if system:
        config["system_instruction"] = system
    parts: list[str] = []
    finish, tokens_in, tokens_out = "", 0, 0
    stream = await _client(account).aio.models.generate_content_stream(model=model, contents=prompt, config=config)
    async for chunk in stream:
        blocked = getattr(chunk.prompt_feedback, "block_reason", None)
        if blocked:
            finish = str(getattr(blocked, "value", blocked))
        for candidate in chunk.candidates or ():
            for part in (candidate.content.parts if candidate.content else None) or ():
                if part.text:
                    parts.append(part.text)
                    on_text(part.text)
            if candidate.finish_reason:
                finish = str(getattr(candidate.finish_reason, "value", candidate.finish_reason))
        if chunk.usage_metadata is not None:
            tokens_in = chunk.usage_metadata.prompt_token_count or 0
            tokens_out = chunk.usage_metadata.candidates_token_count or 0
    return Answer("".join(parts), tokens_in, tokens_out, finish)


async def image(account: Account, model: str, prompt: str, *, size: str, idempotency_key: str) -> Answer:
    """Make an image; the text is its URL, or a ``data:`` URL. Only of those that speak as OpenAI does."""
    made = await _client(account).images.generate(
        model=model, prompt=prompt, size=size, n=1, extra_headers={"Idempotency-Key": idempotency_key}
    )
    first = made.data[0] if made.data else None
    if first is None or not (first.url or first.b64_json):
        raise CutStream(f"{account.provider}/{model}: the answer holds no image")
    return Answer(first.url or f"data:image/png;base64,{first.b64_json}", finish="stop")


async def transcribe(account: Account, model: str, path: str, *, idempotency_key: str) -> Answer:
    """The text of an audio file. Only of those that speak as OpenAI does."""
    with open(path, "rb") as file:
        heard = await _client(account).audio.transcriptions.create(
            model=model, file=file, response_format="verbose_json", extra_headers={"Idempotency-Key": idempotency_key}
        )
    return Answer(heard.text, finish="stop", seconds=float(getattr(heard, "duration", 0) or 0))


_clients: dict[tuple[int, Account], Any] = {}


def _client(account: Account) -> Any:
    """One client for each event loop and account: its connections are used again."""
    key = (id(asyncio.get_running_loop()), account)
    client = _clients.get(key)
    if client is None:
        client = _clients[key] = _open(account)
    return client


async def aclose() -> None:
    """Close this event loop's clients; a program that goes on should, before it ends the loop."""
    loop = id(asyncio.get_running_loop())
    for key in [key for key in _clients if key[0] == loop]:
        client = _clients.pop(key)
        await (client.aio.aclose() if key[1].provider == "google" else client.close())


def _open(account: Account) -> Any:
    try:
        if account.provider == "anthropic":
            import anthropic

            return anthropic.AsyncAnthropic(
                api_key=account.api_key, base_url=account.base_url, timeout=account.timeout_seconds, max_retries=0
            )
        if account.provider == "google":
            from google import genai
            from google.genai import types

            # The key goes as a header; v1beta is what carries system instructions.
            options = types.HttpOptions(
                base_url=account.base_url, api_version="v1beta", timeout=int(account.timeout_seconds * 1000)
            )
            return genai.Client(api_key=account.api_key, http_options=options)
        import openai

        return openai.AsyncOpenAI(
            api_key=account.api_key, base_url=account.base_url, timeout=account.timeout_seconds, max_retries=0
        )
    except ModuleNotFoundError as error:
        raise Reject(f"AI calls need the package {error.name}; pip install 'fourlane[ai]'") from None


def read_error(error: BaseException) -> Signal:
    """What an error of a call says of its provider."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    response = getattr(error, "response", None)
    if isinstance(status, int) and status >= 400:
        # The account is empty: waiting a minute does not fill it.
        if status == 429 and "insufficient_quota" in str(error):
            return Signal("neutral")
        return signal_of_status(status, getattr(response, "headers", None) or {})
    if isinstance(error, Reject):
        return Signal("ok")
    if isinstance(error, (CutStream, TimeoutError, OSError, json.JSONDecodeError)) or _is_of_transport(error):
        return Signal("down", again=True)
    return Signal("neutral")


def _is_of_transport(error: BaseException) -> bool:
    """No connection, a broken one, too slow, or an answer that cannot be read; of whichever SDK or HTTP library."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        names
        & {
            "APIConnectionError",
            "APIResponseValidationError",
            "TransportError",
            "ClientConnectionError",
            "ClientPayloadError",
            "UnknownApiResponseError",
        }
    ) or (type(error).__name__ == "APIError" and type(error).__module__.startswith(("openai", "anthropic")))
