"""A call to a provider before it is made: whose health it is, under which rules, and the permit to make it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from fourlane.providers.liveness import Limits, Signs

__all__ = ["Permit", "Rules", "Target", "fingerprint"]


@dataclass(frozen=True, slots=True)
class Target:
    """Whose health it is: breaker and limits belong to a provider, a model and a key together.

    Parameters:
      provider: e.g. ``openai``, ``twilio``.
      model: where limits differ by it; else empty.
      key: ``fingerprint`` of the API key, never the key itself.
    """

    provider: str
    model: str = ""
    key: str = ""

    @property
    def name(self) -> str:
        return f"{self.model}:{self.key}"

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


def fingerprint(api_key: str) -> str:
    """Eight characters that tell one key from another and give nothing of it away."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Rules:
    """How calls to a target are limited and retried.

    Parameters:
      requests_per_minute, tokens_per_minute: 0: no limit of ours.
      failures: calls, each another one, that fail one after the other until the breaker opens.
      open_seconds: how long it stays open; then any call may try.
      probe_seconds: after so long a call that was not among those that failed may try; doubled each time that it
        fails too, up to ``open_seconds``.
      ramp_seconds: after it closed, calls are let through in growing numbers for so long, and not for longer than it
        was open.
      retries_ms: the waits before calls that are made again after a failure that may pass.
      timeout_seconds: how long a call may be silent: between two signs of life, and in all where it gives none.
      first_seconds: how long until the first sign; None: as long as between two.
      total_seconds: how long in all, whatever signs it gives; None: no limit.
      patience_seconds: a wait for room up to this happens inside the call; a longer one postpones the job.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    failures: int = 5
    open_seconds: float = 30.0
    probe_seconds: float = 0.25
    ramp_seconds: float = 10.0
    retries_ms: tuple[int, ...] = (100, 200, 400)
    timeout_seconds: float = 30.0
    first_seconds: float | None = None
    total_seconds: float | None = None
    patience_seconds: float = 2.0

    @property
    def limits(self) -> Limits:
        """How long a call may take."""
        return Limits(self.timeout_seconds, self.first_seconds, self.total_seconds)


@dataclass(slots=True)
class Permit:
    """A call that may be made. Settle each exactly once.

    Parameters:
      caller: the number of the call that it is for.
      second: under which its tokens are booked.
      claim: of the probe of an open breaker, which holds the others up; 0: it is none.
      on_first: books the first sign of life of a probe.
    """

    target: Target
    rules: Rules
    tokens: int
    caller: int
    second: int
    claim: int = 0
    on_first: Callable[[Permit], Future[None]] | None = None
    used_tokens: int | None = None
    """Set it to what the call really took; None leaves the reservation as it is."""
    silence_ms: int = 0
    """Set it when a good answer's headers say that nothing is left for a while."""
    signs: Signs = field(default_factory=lambda: Signs(time.monotonic()))
    booking: Future[None] | None = None
    """Of its first sign of life."""

    def heard(self) -> None:
        """Say that the provider gave a sign of life: a piece of the answer came. Costs next to nothing."""
        signs = self.signs
        signs.last = time.monotonic()
        if signs.first is None:
            signs.first = signs.last
            if self.on_first is not None:
                self.booking = self.on_first(self)
