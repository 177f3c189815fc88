"""Webhooks that we send: signed by the Standard Webhooks scheme, retried after 1, 2 and 4 seconds.

What an answer means is the table in `judge`; how the request is guarded, `fourlane.providers.http`.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict
from urllib.parse import urlsplit

import dramatiq.errors

from fourlane.errors import FourlaneError, Reject, Snooze
from fourlane.providers.retry_after import retry_after_ms
from fourlane.retry import Backoff
from fourlane.root import Root, root
from fourlane.tasks.task import current_job, task
from fourlane.telling import tell

if TYPE_CHECKING:
    from fourlane.providers import http

__all__ = [
    "Delivered",
    "DeliveryFailed",
    "Judgement",
    "attempt",
    "configure",
    "deliver",
    "judge",
    "later",
    "place",
    "raise_for",
    "send",
    "sign",
    "signed",
]

_JOB_TIMEOUT_MS: Final = 60_000


class DeliveryFailed(FourlaneError):
    """The receiver did not take the webhook this time; the job is tried again."""


class Delivered(TypedDict):
    """The result of a delivery: the status, the beginning of the body, and how long the call took."""

    status: int
    body: str
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class _Policy:
    allow_private: bool
    timeout_seconds: float
    places: int


_policy: _Policy | None = None


def configure(*, allow_private: bool, timeout_seconds: float, places: int = 4) -> None:
    """Set how this process delivers. Without it, the first delivery takes the settings' values.

    Parameters:
      allow_private: whether receivers may be on loopback and private networks; for development.
      timeout_seconds: for one attempt, redirects included; less than the job's own limit of 60 s.
      places: deliveries that one receiver (host and port) may have at once from this process, fewer than its slots.
    """
    global _policy
    _policy = _checked(allow_private=allow_private, timeout_seconds=timeout_seconds, places=places)


def _checked(*, allow_private: bool, timeout_seconds: float, places: int) -> _Policy:
    if not 0 < timeout_seconds < _JOB_TIMEOUT_MS / 1000:
        raise ValueError(f"timeout_seconds must be above 0 and below 60, not {timeout_seconds!r}")
    if places < 1:
        raise ValueError(f"places must be 1 or more, not {places!r}")
    return _Policy(allow_private=allow_private, timeout_seconds=timeout_seconds, places=places)


def _policy_of(of: Root) -> _Policy:
    """A part. Read at the first delivery, so that producers do not load the settings. Raises SettingsError."""
    settings = of.settings
    return _checked(
        allow_private=settings.webhook_allow_private,
        timeout_seconds=settings.webhook_timeout_seconds,
        places=max(1, settings.slots // 2),
    )


@task(
    name="fourlane.webhooks.deliver",
    service="webhooks",
    tier="P1",
    max_retries=3,
    backoff=Backoff(min_ms=1_000, max_ms=4_000, jitter=False),
    timeout_ms=_JOB_TIMEOUT_MS,
    result_ttl_ms=86_400_000,
    share=0.5,  # it waits on others' servers
)
def deliver(
    url: str,
    payload: Any,
    *,
    secret: str | None = None,
    event_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Delivered:
    """POST a payload to a receiver as JSON.

    At least once: an answer that is lost on its way leads to a second delivery, under the same
    ``webhook-id``, by which the receiver can tell.

    Parameters:
      payload: anything that JSON can hold.
      secret: base64, with or without ``whsec_`` before it; without a secret nothing is signed. It is an
        argument like any other, so it lies in Redis in the job's body, until the job is gone: turn on
        the encryption of arguments where that matters.
      event_id: the ``webhook-id``, the same in every attempt; the job's id unless given.
      headers: sent too, e.g. ``Authorization``.

    Raises:
      Reject: it can never succeed: a wrong secret, a refused address, an answer such as 404 or 410.
      Snooze: the receiver has all the places that it may have in this process; no attempt is spent.
      dramatiq.errors.Retry: the receiver said when to come again.
      DeliveryFailed: no answer, or one that may change, such as 503.
    """
    with place(url):
        return attempt(url, payload, webhook_id=event_id or _job_id(), secret=secret, headers=headers)


_taken: Counter[str] = Counter()
_places_free = threading.Condition()
_PLACE_SECONDS: Final = 0.02  # as long as a job may hold a slot that it cannot use
_SHORTEST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0


@contextmanager
def place(url: str) -> Iterator[None]:
    """Hold one of a receiver's places in this process: a slow one must leave slots for others.

    Raises Snooze when none is free in a moment, as of a receiver that answers quickly one is.
    """
    if current_job() is None:  # a plain call holds nobody's slot, and nobody would call it again
        yield
        return
    receiver, places = urlsplit(url).netloc.lower(), _read_policy().places
    with _places_free:
        if not _places_free.wait_for(lambda: _taken[receiver] < places, _PLACE_SECONDS):
            raise later()
        _taken[receiver] += 1
    try:
        yield
    finally:
        with _places_free:
            _taken[receiver] -= 1
            if not _taken[receiver]:
                del _taken[receiver]
            _places_free.notify_all()


def later() -> Snooze:
    """For a delivery that waits for a place: it looks again after a quarter of its age, so seldom at the end."""
    job = current_job()
    age_seconds = time.time() - job.enqueued_at_ms / 1000 if job is not None else 0.0
    pause = min(max(age_seconds / 4, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
    return Snooze(pause * random.uniform(0.8, 1.2))


def _job_id() -> str:
    job = current_job()
    return job.id if job is not None else f"msg_{uuid.uuid4().hex}"  # called as a plain function


def attempt(
    url: str,
    payload: Any,
    *,
    webhook_id: str,
    secret: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Delivered:
    """Deliver once; arguments and errors are those of `deliver`."""
    response = send(
        url, *signed(payload, webhook_id=webhook_id, secrets=[] if secret is None else [secret], headers=headers)
    )
    raise_for(response)
    return Delivered(
        status=response.status,
        body=response.body.decode("utf-8", errors="replace"),
        elapsed_ms=round(response.elapsed_ms),
    )


def signed(
    payload: Any, *, webhook_id: str, secrets: Sequence[str], headers: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of one attempt. Raises Reject as `sign` does, and for a payload that is not JSON."""
    body = _encode(payload)
    given = {name.lower(): value for name, value in (headers or {}).items()}
    signature = sign(body, webhook_id=webhook_id, at_seconds=int(time.time()), secret=secrets)
    return body, {"content-type": "application/json"} | given | signature


def send(url: str, body: bytes, headers: Mapping[str, str]) -> http.Response:
    """Make one attempt.

    Raises:
      Reject: the address is refused.
      DeliveryFailed: no answer came.
    """
    # Here, because producers load this module too, and need no HTTP client.
    from fourlane.providers import http

    policy = _read_policy()
    try:
        response = http.post(
            url,
            body=body,
            headers=headers,
            timeout_seconds=policy.timeout_seconds,
            allow_private=policy.allow_private,
        )
    except http.TargetRefused as error:
        raise Reject(f"refused: {error}") from error
    except http.TransportError as error:
        tell.counted("webhook_deliveries", (error.reason,))
        raise DeliveryFailed(str(error)) from error
    tell.counted("webhook_deliveries", (str(response.status),))
    return response


def raise_for(response: http.Response) -> None:
    """Return when the answer means that the webhook was taken; else raise as `deliver` does."""
    judgement = judge(response, now_seconds=time.time())
    if judgement.verdict == "dead":
        raise Reject(judgement.reason)
    if judgement.verdict == "retry" and judgement.after_ms is not None:
        raise dramatiq.errors.Retry(judgement.reason, delay=judgement.after_ms)
    if judgement.verdict == "retry":
        raise DeliveryFailed(judgement.reason)


def _read_policy() -> _Policy:
    return _policy or root().part(_policy_of)


def _encode(payload: Any) -> bytes:
    try:
        return json.dumps(payload, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise Reject(f"the payload is not JSON: {error}") from error


# --- Signing ---------------------------------------------------------------------------------------


def sign(body: bytes, *, webhook_id: str, at_seconds: int, secret: str | Sequence[str] | None) -> dict[str, str]:
    """The Standard Webhooks headers of one attempt; without a secret, all but the signature.

    Parameters:
      secret: one, or all that are valid while one is being replaced: each signs.
      at_seconds: when the attempt is made (Unix time). Receivers refuse what is five minutes off.

    Raises:
      Reject: the secret is not base64, or the id would blur the text that is signed.
    """
    # The signed text is id.timestamp.body: an id with a dot could move the borders between them.
    if not webhook_id or "." in webhook_id or not all("!" <= char <= "~" for char in webhook_id):
        raise Reject(f"{webhook_id!r} is no webhook-id: use visible ASCII characters without a dot")
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(at_seconds)}
    secrets = [secret] if isinstance(secret, str) else secret or ()
    if secrets:
        import standardwebhooks

        moment = datetime.fromtimestamp(at_seconds, UTC)
        headers["webhook-signature"] = " ".join(
            standardwebhooks.Webhook(_key(one)).sign(webhook_id, moment, body.decode()) for one in secrets
        )
    return headers


def _key(secret: str) -> bytes:
    """Decode a secret strictly: the library skips letters that are not base64, and signs with the rest."""
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise Reject("the webhook secret is not base64 (with or without whsec_ before it)")
    return key


# --- What an answer means --------------------------------------------------------------------------

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
