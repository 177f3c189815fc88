"""The batch APIs of the stand-in: OpenAI's files and batches, Anthropic's message batches.

A batch is under way until ``release`` is called or, with ``quick``, until it is looked at. Each request of it is
answered with its own words, unless ``outcomes`` says otherwise of its prompt. ``paid`` counts what would be paid.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from examples.ai.script import Script, said
from examples.ai.speaks import anthropic, openai_responses

__all__ = ["Batches"]

_Told = tuple[int, bytes, str]
_JSON, _LINES = "application/json", "application/x-jsonl"


@dataclass
class _Batch:
    id: str
    provider: str
    requests: list[dict[str, Any]]
    metadata: dict[str, str]
    created: float = field(default_factory=time.time)
    state: str = "in_progress"  # ended, cancelled, expired, failed
    fault: tuple[int, str] | None = None
    results: list[dict[str, Any]] = field(default_factory=list)


class Batches:
    """What is known of batches.

    Attributes:
      quick: they end when they are looked at.
      outcomes: by prompt: ``expired``, ``canceled``, or the status of an error.
      lost: so many submissions are taken, and their answer is lost; unheard: so many get lost before they are taken.
      paid: how often each prompt was answered.
    """

    def __init__(self) -> None:
        self.quick = True
        self.outcomes: dict[str, str | int] = {}
        self.lost = 0
        self.unheard = 0
        self.refuse = 0
        self.bad_line = 0
        self.paid: Counter[str] = Counter()
        self.submitted: list[_Batch] = []
        self.looks = 0
        self._files: dict[str, bytes] = {}

    def release(self) -> None:
        """Those that are under way end."""
        for batch in self.submitted:
            if batch.state == "in_progress":
                self._end(batch, "ended")

    def answer(self, head: str, headers: dict[str, str], body: bytes) -> _Told | None:
        """What to answer; None: it is none of ours."""
        method, target, *_ = head.split(" ")
        url = urlsplit(target)
        path, query = url.path, parse_qs(url.query)
        if path == "/v1/files" and method == "POST":
            return self._upload(body)
        if found := re.fullmatch(r"/v1/files/([^/]+)/content", path):
            return 200, self._files[found[1]], _LINES
        found = re.fullmatch(r"/v1/(messages/)?batches(?:/([^/]+))?(/cancel|/results)?", path)
        if not found:
            return None
        provider = "anthropic" if found[1] else "openai"
        if not found[2]:
            return self._create(provider, json.loads(body)) if method == "POST" else self._list(provider, query)
        batch = next((one for one in self.submitted if one.id == found[2]), None)
        if batch is None:
            return self._error(provider, 404, "no such batch")
        if found[3] == "/cancel":
            self._end(batch, "cancelled")
        if found[3] == "/results":
            return 200, "".join(json.dumps(line) + "\n" for line in batch.results).encode(), _LINES
        return self._json(self._told(batch))

    def _upload(self, body: bytes) -> _Told:
        boundary = body.split(b"\r\n", 1)[0]
        part = next(part for part in body.split(boundary) if b'name="file"' in part)
        name = f"file-{len(self._files)}"
        self._files[name] = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
        told = {"id": name, "bytes": len(body), "created_at": int(time.time()), "filename": "x.jsonl"}
        return self._json(told | {"object": "file", "purpose": "batch", "status": "processed"})

    def _create(self, provider: str, asked: dict[str, Any]) -> _Told:
        if self.refuse:
            return self._error(provider, self.refuse, "planned refusal")
        if self.unheard:
            self.unheard -= 1
            return self._error(provider, 502, "planned loss")
        if provider == "anthropic":
            requests = [{"custom_id": one["custom_id"], "body": one["params"]} for one in asked["requests"]]
        else:
            requests = [json.loads(line) for line in self._files[asked["input_file_id"]].splitlines()]
        ids = [one["custom_id"] for one in requests]
        if len(set(ids)) < len(ids) or not all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one) for one in ids):
            return self._error(provider, 400, "custom_id: must be unique and of letters, digits, - and _")
        prefix = "msgbatch" if provider == "anthropic" else "batch"
        batch = _Batch(f"{prefix}_{len(self.submitted)}", provider, requests, asked.get("metadata") or {})
        self.submitted.append(batch)
        if self.bad_line:
            batch.state, batch.fault = "failed", (self.bad_line, "planned fault")
        if self.lost:
            self.lost -= 1
            return self._error(provider, 502, "planned loss of the answer")
        return self._json(self._told(batch))

    def _list(self, provider: str, query: dict[str, list[str]]) -> _Told:
        self.looks += 1
        for batch in self.submitted:
            if self.quick and batch.state == "in_progress":
                self._end(batch, "ended")
        found = [one for one in reversed(self.submitted) if one.provider == provider]
        after = (query.get("after") or query.get("after_id") or [""])[0]
        if after:
            found = found[[one.id for one in found].index(after) + 1 :]
        limit = int((query.get("limit") or ["20"])[0])
        page = [self._told(one) for one in found[:limit]]
        edges = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
        return self._json({"object": "list", "data": page, "has_more": len(found) > limit} | edges)

    def _end(self, batch: _Batch, state: str) -> None:
        if batch.state != "in_progress":
            return
        batch.state = state
        for request in batch.requests:
            speaks = anthropic if batch.provider == "anthropic" else openai_responses
            prompt = speaks.read(request["body"], "").prompt
            outcome = "canceled" if state == "cancelled" else self.outcomes.get(prompt, "succeeded")
            if outcome == "succeeded":
                self.paid[prompt] += 1
            makes = _of_anthropic if batch.provider == "anthropic" else _of_openai
            batch.results.append({"custom_id": request["custom_id"]} | makes(request["body"], outcome))
        if batch.provider == "openai":
            for kind in ("output", "error"):
                lines = [
                    one
                    for one in batch.results
                    if ((one["response"] or {}).get("status_code") == 200) == (kind == "output")
                ]
                self._files[f"{kind}-{batch.id}"] = "".join(json.dumps(one) + "\n" for one in lines).encode()

    def _told(self, batch: _Batch) -> dict[str, Any]:
        number, over = len(batch.requests), batch.state != "in_progress"
        if batch.provider == "anthropic":
            counts = Counter(one["result"]["type"] for one in batch.results)
            kinds = {kind: counts[kind] for kind in ("succeeded", "errored", "canceled", "expired")}
            created = datetime.fromtimestamp(batch.created, UTC)
            return {
                "id": batch.id, "type": "message_batch", "processing_status": "ended" if over else "in_progress",
                "request_counts": kinds | {"processing": 0 if over else number}, "created_at": created.isoformat(),
                "expires_at": (created + timedelta(days=1)).isoformat(), "ended_at": None, "archived_at": None,
                "cancel_initiated_at": None,
                "results_url": f"/v1/messages/batches/{batch.id}/results" if over else None,
            }  # fmt: skip
        told: dict[str, Any] = {
            "id": batch.id, "object": "batch", "endpoint": "/v1/responses", "completion_window": "24h",
            "created_at": int(batch.created), "input_file_id": "file", "metadata": batch.metadata,
            "status": {"ended": "completed"}.get(batch.state, batch.state),
            "request_counts": {"total": number, "completed": number if over else 0, "failed": 0},
        }  # fmt: skip
        if batch.fault:
            line, words = batch.fault
            told["errors"] = {"object": "list", "data": [{"line": line, "code": "invalid", "message": words}]}
        elif over:
            told |= {"output_file_id": f"output-{batch.id}", "error_file_id": f"error-{batch.id}"}
        return told

    def _json(self, told: Any) -> _Told:
        return 200, json.dumps(told).encode(), _JSON

    def _error(self, provider: str, status: int, words: str) -> _Told:
        speaks = anthropic if provider == "anthropic" else openai_responses
        return status, json.dumps(speaks.error(status, words)).encode(), _JSON


def _of_openai(body: dict[str, Any], outcome: str | int) -> dict[str, Any]:
    if isinstance(outcome, int):
        error = openai_responses.error(outcome, f"planned {outcome}")
        return {"response": {"status_code": outcome, "request_id": "r", "body": error}, "error": None}
    if outcome != "succeeded":
        code = {"expired": "batch_expired", "canceled": "batch_cancelled"}[outcome]
        return {"response": None, "error": {"code": code, "message": f"the request was {outcome}"}}
    last = openai_responses.say(said(openai_responses.read(body, ""), Script()))[-1]
    whole = json.loads(last.partition("data: ")[2])["response"]
    return {"response": {"status_code": 200, "request_id": "r", "body": whole}, "error": None}


def _of_anthropic(body: dict[str, Any], outcome: str | int) -> dict[str, Any]:
    if isinstance(outcome, int):
        return {"result": {"type": "errored", "error": anthropic.error(outcome, f"planned {outcome}")}}
    if outcome != "succeeded":
        return {"result": {"type": outcome}}
    answer = said(anthropic.read(body, ""), Script())
    usage = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_reason": "end_turn",
        "stop_sequence": None, "content": [{"type": "text", "text": answer.text}], "usage": usage,
    }  # fmt: skip
    return {"result": {"type": "succeeded", "message": message}}
