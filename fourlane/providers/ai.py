"""Calls to AI providers through their own SDKs; each answer in one form, streamed where the provider streams.

OpenAI, Perplexity and OpenRouter speak one protocol (``openai``), Anthropic and Google their own. The SDKs' own
retries are off: retries and limits are those of ``fourlane.providers.health``, shared by all workers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from fourlane.errors import FourlaneError, Reject
from fourlane.providers.signals import Signal, quota_silence_ms, signal_of_status

__all__ = [
    "BASE_URLS",
    "LIKE_OPENAI",
    "Account",
    "Answer",
    "ContentRefused",
    "CutStream",
    "Question",
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
LIKE_OPENAI: Final = frozenset({"openai", "perplexity", "openrouter"})
"""Those that speak as OpenAI does."""
_MOST_KEY: Final = 255


class CutStream(FourlaneError):
    """The answer broke off before its end.

    Attributes:
      answer: what had come; it is most likely paid for.
    """

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


class ContentRefused(Reject):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a model is asked.

    Parameters:
      prompt: the text, or what an image shall show, or the path of an audio file.
      max_tokens: of the answer.
      size: of an image.
      idempotency_key: sent as a header, but to Google, whose SDK and API have none.
    """

    model: str
    prompt: str
    system: str | None = None
    max_tokens: int = 1_024
    size: str = "1024x1024"
    idempotency_key: str

    @property
    def headers(self) -> dict[str, str]:
        key = self.idempotency_key
        if not (key.isascii() and key.isprintable() and len(key) <= _MOST_KEY):  # no header can carry it
            key = f"fourlane-{hashlib.sha256(key.encode()).hexdigest()}"
        return {"Idempotency-Key": key}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Tokens as the provider counts them; 0 where it said nothing."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    finish: str = ""
    seconds: float = 0.0
    """Of audio that was transcribed."""
    silence_ms: int = 0
    """How long the provider wants no more calls, because its quota is used up."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class _Piece(NamedTuple):
    """What one event of a stream says; empty and 0: nothing new. Later words count."""

    text: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    finish: str = ""
    silence_ms: int = 0


_REFUSALS: Final = frozenset({"content_filter", "refusal", "safety", "prohibited_content", "blocklist", "spii"})


async def ask(account: Account, question: Question, on_text: Callable[[str], None]) -> Answer:
    """Ask a model, streamed.

    Parameters:
      on_text: gets each piece of the text as it comes.

    Raises:
      ContentRefused: the content was refused.
      CutStream: the answer broke off.
      whatever the SDK raises; ``read_error`` tells what it means.
    """
    speak = {"anthropic": _anthropic, "google": _google}.get(account.provider, _openai)
    whole = _Piece()
    texts: list[str] = []
    async with aclosing(speak(account, question)) as pieces:
        async for piece in pieces:
            if piece.text:
                texts.append(piece.text)
                on_text(piece.text)
            whole = _Piece(
                "",
                piece.input_tokens or whole.input_tokens,
                piece.output_tokens or whole.output_tokens,
                piece.finish or whole.finish,
                piece.silence_ms or whole.silence_ms,
            )
    answer = Answer("".join(texts), whole.input_tokens, whole.output_tokens, whole.finish, 0.0, whole.silence_ms)
    who = f"{account.provider}/{question.model}"
    if answer.finish.lower() in _REFUSALS:
        raise ContentRefused(f"{who} refused the content ({answer.finish})", answer)
    if not answer.finish:
        raise CutStream(f"{who}: the answer broke off", answer)
    return answer


async def _openai(account: Account, question: Question) -> AsyncGenerator[_Piece, None]:
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages.append({"role": "user", "content": question.prompt})
    stream = await _client(account).chat.completions.create(
        model=question.model,
        messages=messages,
        max_tokens=question.max_tokens,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=question.headers,
    )
    refused = ""
    async with stream:
        yield _Piece(silence_ms=quota_silence_ms(stream.response.headers))
        async for chunk in stream:
            if chunk.usage is not None:
                yield _Piece("", chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
            for choice in chunk.choices or ():
                if getattr(choice.delta, "refusal", None):
                    refused = "refusal"
                yield _Piece(choice.delta.content or "", finish=refused or choice.finish_reason or "")


async def _anthropic(account: Account, question: Question) -> AsyncGenerator[_Piece, None]:
    stream = await _client(account).messages.create(
        model=question.model,
        max_tokens=question.max_tokens,
        messages=[{"role": "user", "content": question.prompt}],
        stream=True,
        extra_headers=question.headers,
        **({"system": question.system} if question.system else {}),
    )
    async with stream:
        yield _Piece(silence_ms=quota_silence_ms(stream.response.headers))
        async for event in stream:
            if event.type == "message_start":
                yield _Piece("", event.message.usage.input_tokens or 0)
            elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield _Piece(event.delta.text)
            elif event.type == "message_delta":
                yield _Piece("", 0, event.usage.output_tokens or 0, event.delta.stop_reason or "")


async def _google(account: Account, question: Question) -> AsyncGenerator[_Piece, None]:
    config: dict[str, Any] = {"max_output_tokens": question.max_tokens}
    if question.system:
        config["system_instruction"] = question.system
    stream = await _client(account).aio.models.generate_content_stream(
        model=question.model, contents=question.prompt, config=config
    )
    async for chunk in stream:
        blocked = getattr(chunk.prompt_feedback, "block_reason", None)
        if blocked:
            yield _Piece(finish=_word(blocked))
        for candidate in chunk.candidates or ():
            for part in (candidate.content.parts if candidate.content else None) or ():
                yield _Piece(part.text or "")
            if candidate.finish_reason:
                yield _Piece(finish=_word(candidate.finish_reason))
        used = chunk.usage_metadata
        if used is not None:
            yield _Piece("", used.prompt_token_count or 0, used.candidates_token_count or 0)


def _word(value: Any) -> str:
    return str(getattr(value, "value", value))


async def image(account: Account, question: Question) -> Answer:
    """Make an image; the text is its URL, or a ``data:`` URL. Only of those that speak as OpenAI does."""
    made = await _client(account).images.generate(
        model=question.model, prompt=question.prompt, size=question.size, n=1, extra_headers=question.headers
    )
    first = made.data[0] if made.data else None
    if first is None or not (first.url or first.b64_json):
        raise CutStream(f"{account.provider}/{question.model}: the answer holds no image", Answer(""))
    return Answer(first.url or f"data:image/png;base64,{first.b64_json}", finish="stop")


async def transcribe(account: Account, question: Question) -> Answer:
    """The text of an audio file. Only of those that speak as OpenAI does. Raises Reject: it cannot be read."""
    try:
        file = open(question.prompt, "rb")  # noqa: SIM115
    except OSError as error:
        raise Reject(f"{question.prompt} cannot be read: {error.strerror}") from None
    with file:
        heard = await _client(account).audio.transcriptions.create(
            model=question.model, file=file, response_format="verbose_json", extra_headers=question.headers
        )
    return Answer(heard.text, finish="stop", seconds=float(getattr(heard, "duration", 0) or 0))


# Clients --------------------------------------------------------------------------------------------------------

_clients: dict[tuple[asyncio.AbstractEventLoop, Account], Any] = {}


def _client(account: Account) -> Any:
    """One client for each event loop and account: its connections are used again."""
    key = (asyncio.get_running_loop(), account)
    client = _clients.get(key)
    if client is None:
        for gone in [known for known in _clients if known[0].is_closed()]:
            _clients.pop(gone, None)
        client = _clients[key] = _open(account)
    return client


async def aclose() -> None:
    """Close this event loop's clients; a program that goes on should, before it ends the loop."""
    loop = asyncio.get_running_loop()
    for key in [key for key in _clients if key[0] is loop]:
        client = _clients.pop(key)
        await (client.aio.aclose() if key[1].provider == "google" else client.close())


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


# Errors ---------------------------------------------------------------------------------------------------------


def read_error(error: BaseException) -> Signal:
    """What an error of a call says of its provider."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    response = getattr(error, "response", None)
    if isinstance(status, int) and status >= 400:
        # The account is empty: waiting a minute does not fill it.
        if status == 429 and "insufficient_quota" in str(error):
            return Signal("neutral")
        return signal_of_status(status, _google_wait(error) or getattr(response, "headers", None) or {})
    if isinstance(error, ContentRefused):
        return Signal("ok")
    if isinstance(error, (CutStream, TimeoutError, OSError, json.JSONDecodeError)) or _is_of_transport(error):
        return Signal("down", again=True)
    return Signal("neutral")


def _google_wait(error: BaseException) -> dict[str, str]:
    """Google says in the body, not in a header, when to come again: as one; empty where nothing is said."""
    details = getattr(error, "details", None)
    told = details.get("error", details) if isinstance(details, dict) else {}
    for detail in (told.get("details") or ()) if isinstance(told, dict) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return {"retry-after": detail["retryDelay"].removesuffix("s")}
    return {}


_OF_TRANSPORT: Final = frozenset(
    {
        "APIConnectionError",
        "APIResponseValidationError",
        "ClientConnectionError",
        "ClientPayloadError",
        "TransportError",
        "UnknownApiResponseError",
    }
)


def _is_of_transport(error: BaseException) -> bool:
    """No connection, a broken one, too slow, or an answer that cannot be read; of whichever SDK or HTTP library."""
    kind = type(error)
    if kind.__name__ == "APIError" and kind.__module__.startswith(("openai", "anthropic")):
        return True
    return any(base.__name__ in _OF_TRANSPORT for base in kind.__mro__)
