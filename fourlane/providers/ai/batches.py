"""Batch APIs: many questions handed over at once, answered within a day, at half the price.

A batch is submitted under a name of ours where its provider keeps one (OpenAI: metadata); Anthropic keeps none, there
the ids of its requests tell whose it is, once it has ended. Each result comes with the id of its request.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from fourlane.providers.ai import anthropic, openai_responses
from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Answer
from fourlane.providers.ai.errors import status_of
from fourlane.providers.ai.families import family
from fourlane.providers.ai.pieces import Gathered
from fourlane.providers.ai.question import Question, header_of
from fourlane.providers.ai.refusals import adapted

__all__ = [
    "MOST_BYTES",
    "MOST_REQUESTS",
    "Batch",
    "Result",
    "answer_of",
    "cancel",
    "has_batches",
    "latest",
    "look",
    "request_of",
    "results",
    "submit",
]

MOST_REQUESTS: Final[Mapping[str, int]] = {"openai": 50_000, "anthropic": 100_000}
MOST_BYTES: Final[Mapping[str, int]] = {"openai": 200_000_000, "anthropic": 256_000_000}
_SPEAKS: Final = {"openai": "responses", "anthropic": "anthropic"}
_NAME: Final = "fourlane"
_PAGE: Final = 100
_FILES_SECONDS: Final = 3 * 86_400  # a batch is over after one day
_STATES: Final[Mapping[str, Literal["open", "ended", "failed"]]] = {
    "completed": "ended", "expired": "ended", "cancelled": "ended", "failed": "failed", "ended": "ended",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as its provider tells of it.

    Parameters:
      name: ours; empty where the provider keeps none.
      state: ``ended``: all is there that will come. ``failed``: it was not begun; ``faults`` say why.
      word: the provider's own word for the state.
      requests, answered: numbers; 0 as long as it does not say.
      faults: ``(line, code, words)``; line 0: of all.
      files: where results are, where they are files.
    """

    id: str
    name: str = ""
    state: Literal["open", "ended", "failed"]
    word: str
    created_ms: int
    requests: int = 0
    answered: int = 0
    faults: tuple[tuple[int, str, str], ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one request.

    Parameters:
      message: the answer, as its provider gives it; None: there is none.
      status: of HTTP, of a refusal; 0: it was not asked, for the batch ended before.
    """

    id: str
    message: Mapping[str, Any] | None = None
    status: int = 0
    words: str = ""


def has_batches(account: Account) -> bool:
    """Whether requests can be handed over to it in batches."""
    return _SPEAKS.get(account.provider) == account.speaks


def request_of(account: Account, question: Question) -> dict[str, Any]:
    """What a question is as a request of a batch."""
    makes = openai_responses.body_of if account.provider == "openai" else anthropic.body_of
    body = makes(account.provider, question, family(account.provider, question.model))
    return adapted(account, question.model, {name: value for name, value in body.items() if name != "stream"})


def answer_of(provider: str, model: str, message: Mapping[str, Any]) -> Answer:
    """What a message out of a batch says. Raises FailedAnswer."""
    gathered = Gathered()
    whole = openai_responses.whole if provider == "openai" else anthropic.whole
    for piece in whole(provider, model, dict(message)):
        gathered.add(piece)
    answer = gathered.answer()
    return replace(answer, usage=replace(answer.usage, half=True), first_ms=0)


async def submit(account: Account, name: str, requests: Sequence[tuple[str, bytes]]) -> str:
    """Hand a batch over; its id. An error without a status may have come after the provider took it: see ``latest``.

    Parameters:
      requests: their ids, and what ``request_of`` gave as JSON.
    """
    sdk = client(account)
    if account.provider == "anthropic":
        asked = [{"custom_id": id, "params": json.loads(body)} for id, body in requests]
        made = await sdk.messages.batches.create(requests=asked, extra_headers=header_of(name))
        return str(made.id)
    lines = io.BytesIO()
    for id, body in requests:
        head = {"custom_id": id, "method": "POST", "url": "/v1/responses"}
        lines.write(json.dumps(head)[:-1].encode() + b', "body": ' + body + b"}\n")
    kept = {"anchor": "created_at", "seconds": _FILES_SECONDS}
    file = await sdk.files.create(
        file=(f"{name}.jsonl", lines.getvalue()), purpose="batch", expires_after=kept, extra_headers=header_of(name)
    )
    made = await sdk.batches.create(
        input_file_id=file.id,
        endpoint="/v1/responses",
        completion_window="24h",
        metadata={_NAME: name},
        extra_headers=header_of(f"{name}-batch"),
    )
    return str(made.id)


async def latest(account: Account, since_ms: int) -> AsyncIterator[Batch]:
    """Batches of the account from the newest to those of that time."""
    listed = client(account)
    pages = listed.messages.batches if account.provider == "anthropic" else listed.batches
    async for one in pages.list(limit=_PAGE):
        batch = _read(account, one)
        if batch.created_ms < since_ms:
            return
        yield batch


async def look(account: Account, batch_id: str) -> Batch | None:
    """One batch; None: there is none of this id."""
    sdk = client(account)
    batches = sdk.messages.batches if account.provider == "anthropic" else sdk.batches
    try:
        return _read(account, await batches.retrieve(batch_id))
    except Exception as error:
        if status_of(error) == 404:
            return None
        raise


async def cancel(account: Account, batch_id: str) -> None:
    """What is not begun is not asked any more; results of the rest will come."""
    sdk = client(account)
    batches = sdk.messages.batches if account.provider == "anthropic" else sdk.batches
    await batches.cancel(batch_id)


async def results(account: Account, batch: Batch) -> AsyncIterator[Result]:
    """The results of a batch that ended, one by one, as they come."""
    sdk = client(account)
    if account.provider == "anthropic":
        async for one in await sdk.messages.batches.results(batch.id):
            yield _of_anthropic(one.to_dict(mode="json"))
        return
    for file in batch.files:
        async with sdk.files.with_streaming_response.content(file) as content:
            async for line in content.iter_lines():
                if line.strip():
                    yield _of_openai(json.loads(line))


def _read(account: Account, told: Any) -> Batch:
    if account.provider == "anthropic":
        counts = told.request_counts
        answered = counts.succeeded + counts.errored + counts.canceled + counts.expired
        return Batch(
            id=told.id,
            state=_STATES.get(told.processing_status, "open"),
            word=told.processing_status,
            created_ms=int(told.created_at.timestamp() * 1000),
            requests=counts.processing + answered,
            answered=answered,
        )
    counts, errors = told.request_counts, (told.errors.data if told.errors else None) or ()
    return Batch(
        id=told.id,
        name=(told.metadata or {}).get(_NAME, ""),
        state=_STATES.get(told.status, "open"),
        word=told.status,
        created_ms=told.created_at * 1000,
        requests=counts.total if counts else 0,
        answered=counts.completed + counts.failed if counts else 0,
        faults=tuple((one.line or 0, one.code or "", one.message or "") for one in errors),
        files=tuple(file for file in (told.output_file_id, told.error_file_id) if file),
    )


_KINDS: Final = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "timeout_error": 504, "api_error": 500,
    "overloaded_error": 529,
}  # fmt: skip
"""Anthropic names its errors where others give a status."""


def _of_anthropic(line: dict[str, Any]) -> Result:
    told = line.get("result") or {}
    if told.get("type") == "succeeded":
        return Result(id=line["custom_id"], message=told.get("message") or {})
    if told.get("type") == "errored":
        error = (told.get("error") or {}).get("error") or {}
        kind = str(error.get("type") or "api_error")
        return Result(id=line["custom_id"], status=_KINDS.get(kind, 500), words=f"{kind}: {error.get('message') or ''}")
    return Result(id=line["custom_id"], words=str(told.get("type") or "no result"))


def _of_openai(line: dict[str, Any]) -> Result:
    response, error = line.get("response") or {}, line.get("error") or {}
    body = response.get("body") or {}
    status = int(response.get("status_code") or 0)
    if status == 200:
        return Result(id=line["custom_id"], message=body)
    fault = body.get("error") if isinstance(body, dict) else None
    words = (fault or {}).get("message") or error.get("message") or error.get("code") or "no result"
    return Result(id=line["custom_id"], status=status, words=str(words))
