"""PayPal's signature, in its two ways.

Offline: ``id|time|webhook id|CRC-32 of the body`` is signed by the key of a certificate that the request names by URL.
Anybody can make a certificate, so it counts only

1. when it lies on PayPal's own host, under the path for such certificates (nothing else is fetched);
2. when a root that we trust stands behind it, today;
3. when it is issued to PayPal's name for this purpose.

Postback: PayPal is asked whether the signature is its own. A call per webhook, but nothing to keep up to date.
"""

from __future__ import annotations

import base64
import binascii
import threading
import time
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from fourlane.webhooks.refused import Refused, Unverifiable

if TYPE_CHECKING:
    from cryptography import x509

    from fourlane.providers.paypal import PayPalApi

__all__ = ["PayPal", "Transmission", "read_transmission", "signed_text"]

_CERTIFICATE_PATH: Final = "/v1/notifications/certs/"
_CERTIFICATES_KEPT: Final = 16
_CERTIFICATE_SECONDS: Final = 86_400
_CERTIFICATE_BYTES: Final = 65_536
_TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Transmission:
    """What the headers say."""

    id: str
    time: str
    signature: bytes
    signature_text: str
    certificate_url: str
    algorithm: str


def read_transmission(headers: Mapping[str, str]) -> Transmission:
    """Read the headers, names in lower case. Raises Refused."""
    try:
        text = headers["paypal-transmission-sig"]
        sent = Transmission(
            id=headers["paypal-transmission-id"],
            time=headers["paypal-transmission-time"],
            signature=base64.b64decode(text, validate=True),
            signature_text=text,
            certificate_url=headers["paypal-cert-url"],
            algorithm=headers["paypal-auth-algo"],
        )
    except KeyError as missing:
        raise Refused("signature", f"there is no {missing.args[0]}") from None
    except binascii.Error:
        raise Refused("signature", "it is not base64") from None
    if sent.algorithm != "SHA256withRSA":
        # It comes from the request: whoever could choose it would choose the weakest.
        raise Refused("signature", "its algorithm is not SHA256withRSA")
    return sent


def signed_text(sent: Transmission, webhook_id: str, body: bytes) -> bytes:
    """The bytes that PayPal signs."""
    return f"{sent.id}|{sent.time}|{webhook_id}|{zlib.crc32(body)}".encode()


@dataclass(frozen=True, slots=True)
class _Kept:
    certificate: x509.Certificate
    until_seconds: float


@dataclass(slots=True)
class PayPal:
    """Checks PayPal's webhooks.

    Parameters:
      webhook_id: of our webhook, from PayPal's dashboard; part of what is signed.
      certificate_host: where certificates may lie: ``api.paypal.com``, or ``api.sandbox.paypal.com``.
      certificate_name: whom they are issued to.
      way: ``offline`` or ``postback``.
      api: for the postback.
      roots_pem: certificates to trust in place of the usual ones; for tests.
      allow_private: whether the host may be on a private network; for tests.
    """

    webhook_id: str
    certificate_host: str = "api.paypal.com"
    certificate_name: str = "messageverificationcerts.paypal.com"
    way: Literal["offline", "postback"] = "offline"
    api: PayPalApi | None = None
    roots_pem: bytes | None = None
    allow_private: bool = False
    _kept: dict[str, _Kept] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def check(self, sent: Transmission, body: bytes, *, now_seconds: float) -> None:
        """Raises Refused when the signature is not PayPal's, Unverifiable when that cannot be said now."""
        if self.way == "postback":
            self._ask(sent, body)
        else:
            check_signature(self._certificate(sent.certificate_url, now_seconds), sent, self.webhook_id, body)

    def _ask(self, sent: Transmission, body: bytes) -> None:
        from fourlane.providers.payments import ProviderError

        if self.api is None:
            raise Refused("not configured", "the postback needs PayPal's client id and secret")
        try:
            genuine = self.api.verify_webhook(
                {
                    "auth_algo": sent.algorithm,
                    "cert_url": sent.certificate_url,
                    "transmission_id": sent.id,
                    "transmission_sig": sent.signature_text,
                    "transmission_time": sent.time,
                    "webhook_id": self.webhook_id,
                },
                body,
            )
        except ProviderError as error:
            raise Unverifiable(f"PayPal was asked and did not say: {error}") from error
        if not genuine:
            raise Refused("signature", "PayPal says it is not its own")

    def _certificate(self, url: str, now_seconds: float) -> x509.Certificate:
        path = url.removeprefix(f"https://{self.certificate_host}")
        if path == url or not path.startswith(_CERTIFICATE_PATH) or not path.isascii():
            raise Refused("signature", "its certificate does not lie on PayPal's host")
        name = path.removeprefix(_CERTIFICATE_PATH)
        if not name or not all(char.isalnum() or char in "-_." for char in name) or ".." in name:
            raise Refused("signature", "its certificate does not lie on PayPal's host")
        with self._lock:
            kept = self._kept.get(url)
        if kept is None or kept.until_seconds < time.monotonic():
            certificate = self._trusted(self._fetch(url), now_seconds)
            with self._lock:
                while len(self._kept) >= _CERTIFICATES_KEPT:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[url] = kept = _Kept(certificate, time.monotonic() + _CERTIFICATE_SECONDS)
        if not kept.certificate.not_valid_before_utc.timestamp() <= now_seconds:
            raise Refused("signature", "its certificate is not valid yet")
        if kept.certificate.not_valid_after_utc.timestamp() < now_seconds:
            raise Refused("signature", "its certificate has expired")
        return kept.certificate

    def _fetch(self, url: str) -> bytes:
        from fourlane.providers import http

        try:
            response = http.get(
                url,
                headers={},
                timeout_seconds=_TIMEOUT_SECONDS,
                allow_private=self.allow_private,
                keep_body_bytes=_CERTIFICATE_BYTES,
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
            .build_server_verifier(x509.DNSName(self.certificate_name))
        )
        try:
            verifier.verify(leaf, others)
        except verification.VerificationError as error:
            raise Refused("signature", f"its certificate is not to be trusted: {error}") from error
        return leaf

    def _roots(self) -> list[x509.Certificate]:
        from cryptography import x509

        return _usual_roots() if self.roots_pem is None else x509.load_pem_x509_certificates(self.roots_pem)


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


def check_signature(certificate: x509.Certificate, sent: Transmission, webhook_id: str, body: bytes) -> None:
    """Check a signature against a certificate that is known to be PayPal's. Raises Refused."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key: Any = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise Refused("signature", "its certificate's key is not RSA")
    try:
        key.verify(sent.signature, signed_text(sent, webhook_id, body), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise Refused("signature", "its certificate's key did not make it") from None
