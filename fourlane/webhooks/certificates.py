"""Certificates that PayPal signs with. The request names one by URL, and anybody can make one, so it counts only

1. when it lies on PayPal's own host, under the path for such certificates (nothing else is fetched);
2. when a root that we trust stands behind it, today;
3. when it is issued to PayPal's name for this purpose.

Whoever forges names certificates at will. So what cannot be had is remembered for a minute, one is fetched at a time,
and few in a minute; those that we have are not lost by it.
"""

from __future__ import annotations

import re
import threading
import time
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fourlane.webhooks.questions import Questions
from fourlane.webhooks.refused import Refused, Unverifiable

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["Certificates"]

_PATH: Final = "/v1/notifications/certs/"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_MOST_KEPT: Final = 16
_MOST_FAULTS: Final = 64
_FRESH_SECONDS: Final = 86_400
_STALE_SECONDS: Final = 7 * 86_400
_FAULT_SECONDS: Final = 60
_MOST_BYTES: Final = 65_536
_TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Kept:
    certificate: x509.Certificate
    fetched_at: float
    fresh_until: float


class Certificates:
    """Fetches and keeps them. May be shared by threads.

    Parameters:
      host: where they may lie: ``api.paypal.com``, or ``api.sandbox.paypal.com``.
      name: whom they are issued to.
      roots_pem: certificates to trust in place of the usual ones; for tests.
      allow_private: whether the host may be on a private network; for tests.
    """

    def __init__(
        self,
        host: str = "api.paypal.com",
        name: str = "messageverificationcerts.paypal.com",
        *,
        roots_pem: bytes | None = None,
        allow_private: bool = False,
    ) -> None:
        self.host, self.name = host, name
        self._roots_pem = roots_pem
        self._allow_private = allow_private
        self._kept: dict[str, _Kept] = {}
        self._faults: dict[str, tuple[Refused | Unverifiable, float]] = {}
        self._questions = Questions(in_all=10, of_one=4)
        self._fetching = threading.Lock()

    def get(self, url: str, *, now_seconds: float, address: str = "") -> x509.Certificate:
        """One that is valid now. Raises Refused, Unverifiable."""
        path = url.removeprefix(f"https://{self.host}")
        name = path.removeprefix(_PATH)
        if path == url or name == path or not _NAME.fullmatch(name) or ".." in name:
            raise Refused("signature", "its certificate does not lie on PayPal's host")
        kept = self._fresh(url)
        if kept is None:
            with self._questions.place(), self._fetching:
                kept = self._fresh(url) or self._renewed(url, now_seconds, address)  # another may have fetched it
        if not kept.certificate.not_valid_before_utc.timestamp() <= now_seconds:
            raise Refused("signature", "its certificate is not valid yet")
        if kept.certificate.not_valid_after_utc.timestamp() < now_seconds:
            raise Refused("signature", "its certificate has expired")
        return kept.certificate

    def _fresh(self, url: str) -> _Kept | None:
        kept = self._kept.get(url)
        return kept if kept is not None and time.monotonic() < kept.fresh_until else None

    def _renewed(self, url: str, now_seconds: float, address: str) -> _Kept:
        """Called by one thread at a time."""
        fault, until = self._faults.get(url, (None, 0.0))
        if fault is not None and time.monotonic() < until:
            raise _again(fault)
        now = time.monotonic()
        try:
            self._questions.spend(address)
            kept = _Kept(self._trusted(self._fetch(url), now_seconds), now, now + _FRESH_SECONDS)
            self._questions.give_back(address)  # only what was for nothing is bounded
        except (Refused, Unverifiable) as error:
            kept = self._still(url, error)
        while len(self._kept) >= _MOST_KEPT and url not in self._kept:
            self._kept.pop(next(iter(self._kept)))
        self._kept[url] = kept
        return kept

    def _still(self, url: str, error: Refused | Unverifiable) -> _Kept:
        """The one that we have, where a newer one cannot be had now; else the error, which is remembered."""
        now, old = time.monotonic(), self._kept.get(url)
        limited = isinstance(error, Refused) and error.reason == "rate"
        if old is not None and (limited or isinstance(error, Unverifiable)) and now < old.fetched_at + _STALE_SECONDS:
            return replace(old, fresh_until=now + _FAULT_SECONDS)
        self._kept.pop(url, None)
        if not limited:
            while len(self._faults) >= _MOST_FAULTS:
                self._faults.pop(next(iter(self._faults)))
            self._faults[url] = (error, now + _FAULT_SECONDS)
        raise error

    def _fetch(self, url: str) -> bytes:
        from fourlane.providers import http

        try:
            response = http.get(
                url,
                headers={},
                timeout_seconds=_TIMEOUT_SECONDS,
                allow_private=self._allow_private,
                keep_body_bytes=_MOST_BYTES,
            )
        except http.TargetRefused as error:
            raise Refused("signature", f"its certificate cannot be fetched: {error}") from error
        except http.TransportError as error:
            raise Unverifiable(f"PayPal's certificate cannot be fetched: {error}") from error
        if response.status == 404:
            raise Refused("signature", "PayPal has no such certificate")
        if response.status != 200:
            raise Unverifiable(f"PayPal's certificate cannot be fetched: HTTP {response.status}")
        return response.body

    def _trusted(self, pem: bytes, now_seconds: float) -> x509.Certificate:
        from cryptography import x509
        from cryptography.x509 import verification

        try:
            leaf, *others = x509.load_pem_x509_certificates(pem)
        except ValueError:
            raise Refused("signature", "its certificate cannot be read") from None
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(self._roots()))
            .time(datetime.fromtimestamp(now_seconds, UTC))
            .build_server_verifier(x509.DNSName(self.name))
        )
        try:
            verifier.verify(leaf, others)
        except verification.VerificationError as error:
            raise Refused("signature", f"its certificate is not to be trusted: {error}") from error
        return leaf

    def _roots(self) -> list[x509.Certificate]:
        from cryptography import x509

        return _usual_roots() if self._roots_pem is None else x509.load_pem_x509_certificates(self._roots_pem)


def _again(fault: Refused | Unverifiable) -> Refused | Unverifiable:
    """The same once more: one object that many raise would gather their tracebacks."""
    return Refused(fault.reason, fault.detail) if isinstance(fault, Refused) else Unverifiable(str(fault))


@cache
def _usual_roots() -> list[x509.Certificate]:
    import certifi
    from cryptography import x509

    roots: list[x509.Certificate] = []
    end = b"-----END CERTIFICATE-----"
    for part in Path(certifi.where()).read_bytes().split(end)[:-1]:
        # One by one: a root that this library finds malformed must not cost us the others.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                roots.append(x509.load_pem_x509_certificate(part + end))
            except ValueError:
                pass
    return roots
