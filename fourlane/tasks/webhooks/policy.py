"""How this process delivers: where to, for how long, and which URLs it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fourlane.errors import FourlaneError
from fourlane.names import Tier
from fourlane.retry import Backoff
from fourlane.root import Root, root

__all__ = [
    "BACKOFF",
    "JOB_MS",
    "MAX_RETRIES",
    "PRIVATE_BY",
    "SERVICE",
    "TIER",
    "InvalidEndpoint",
    "Policy",
    "check_url",
    "configure",
    "policy",
    "policy_of",
]

SERVICE: Final = "webhooks"
TIER: Final = Tier.P1
MAX_RETRIES: Final = 3
BACKOFF: Final = Backoff(min_ms=1_000, max_ms=4_000, jitter=False)
JOB_MS: Final = 60_000
PRIVATE_BY: Final = "FOURLANE_WEBHOOK_ALLOW_PRIVATE"


class InvalidEndpoint(FourlaneError, ValueError):
    """What an endpoint is to be cannot be: its URL may not be called, or a type or number is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What `configure` sets."""

    allow_private: bool
    timeout_seconds: float
    allow_http: bool = True
    slow_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.timeout_seconds < JOB_MS / 1000:
            raise ValueError(f"timeout_seconds must be above 0 and below 60, not {self.timeout_seconds!r}")


_policy: Policy | None = None


def configure(
    *, allow_private: bool, timeout_seconds: float, allow_http: bool = True, slow_seconds: float = 10.0
) -> None:
    """Set how this process delivers. Without it, the first delivery takes the settings' values.

    Parameters:
      allow_private: whether receivers may be on loopback and private networks; for development.
      timeout_seconds: for one attempt, redirects included; less than the job's own limit of 60 s.
      allow_http: whether receivers may do without TLS.
      slow_seconds: an endpoint that takes longer, some times in a row, gets one delivery at a time.
    """
    global _policy
    _policy = Policy(
        allow_private=allow_private,
        timeout_seconds=timeout_seconds,
        allow_http=allow_http,
        slow_seconds=slow_seconds,
    )


def policy() -> Policy:
    """That of this process. Raises SettingsError."""
    return _policy or root().part(policy_of)


def policy_of(of: Root) -> Policy:
    """A part. Read at the first delivery, so that producers do not load the settings. Raises SettingsError."""
    settings = of.settings
    return Policy(
        allow_private=settings.webhook_allow_private,
        timeout_seconds=settings.webhook_timeout_seconds,
        allow_http=settings.webhook_allow_http or settings.environment != "production",
        slow_seconds=settings.webhook_slow_seconds,
    )


def check_url(url: str, policy: Policy) -> None:
    """Refuse what can be seen of a URL without asking anybody. Raises InvalidEndpoint."""
    from fourlane.providers import http

    try:
        http.check_url(url, allow_private=policy.allow_private)
    except http.TargetRefused as error:
        raise InvalidEndpoint(http.explained(error, PRIVATE_BY)) from None
    if not policy.allow_http and url[:5].lower() == "http:":
        raise InvalidEndpoint("the URL must begin with https://; FOURLANE_WEBHOOK_ALLOW_HTTP=true allows http://")
