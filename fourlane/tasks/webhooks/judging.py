"""What a receiver's answer means for the job. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal

from fourlane.providers.retry_after import retry_after_ms

if TYPE_CHECKING:
    from fourlane.providers import http

__all__ = ["Judgement", "judge"]

_Verdict = Literal["done", "retry", "dead"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer means for the job.

    Parameters:
      reason: status and the beginning of the body, in one line; empty when done.
      after_ms: for a retry, when the receiver asked for; None leaves it to the task's backoff.
    """

    verdict: _Verdict
    reason: str = ""
    after_ms: int | None = None


# The first row that holds the status counts; a status in none is dead: a redirect that was not followed,
# 410 and all that blame the request itself, which the next attempt would only repeat.
_VERDICTS: Final[tuple[tuple[range | frozenset[int], _Verdict], ...]] = (
    (range(200, 300), "done"),
    (frozenset({408, 425, 429}), "retry"),  # too slow, too early, too many
    (range(500, 600), "retry"),
)
_REASON_BODY_CHARACTERS: Final = 200


def judge(response: http.Response, *, now_seconds: float) -> Judgement:
    """Judge an answer.

    Parameters:
      now_seconds: Unix time, against which a ``Retry-After`` that is a date is measured.
    """
    verdict = next((verdict for statuses, verdict in _VERDICTS if response.status in statuses), "dead")
    if verdict == "done":
        return Judgement("done")
    if verdict == "retry":
        after_ms = retry_after_ms(response.headers, now_seconds=now_seconds) or None
        return Judgement("retry", _reason(response), after_ms)
    return Judgement("dead", _reason(response))


def _reason(response: http.Response) -> str:
    try:
        status = f"HTTP {response.status} {HTTPStatus(response.status).phrase}"
    except ValueError:
        status = f"HTTP {response.status}"
    body = " ".join(response.body.decode("utf-8", errors="replace").split())
    return f"{status}: {body[:_REASON_BODY_CHARACTERS]}" if body else status
