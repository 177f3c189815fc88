"""PayPal's signature, and the ways to be sure of it.

It covers ``id|time|webhook id|CRC-32 of the body``. So it proves that PayPal made this transmission, and not what is in
it: who holds one genuine transmission makes other bodies of the same CRC-32. What follows from that:

- The receiver remembers each transmission with a digest of its first body (``receive.py``): no second one is taken.
- ``offline`` checks the signature here, by the certificate that the request names (``certificates.py``).
- ``postback`` asks PayPal whether the signature is its own. That needs no certificate, and proves no more.
- ``lookup`` checks as ``offline``, and then takes the event from PayPal by its id: what the request says of it does not
  matter any more.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from fourlane.webhooks.certificates import Certificates
from fourlane.webhooks.questions import Questions
from fourlane.webhooks.rate import Rates
from fourlane.webhooks.refused import Refused, Unverifiable

if TYPE_CHECKING:
    from cryptography import x509

    from fourlane.providers.paypal import PayPalApi

__all__ = ["PayPal", "Transmission", "check_signature", "read_transmission", "signed_text"]

T = TypeVar("T")
_QUESTIONS_OF_ONE: Final = 5  # a minute, for one transmission
_EVENT_ID: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_ID: Final = re.compile(r"[A-Za-z0-9._-]+")  # without the "|" that parts it from the time in what is signed
_LONGEST: Final = {
    "paypal-transmission-id": 100,
    "paypal-transmission-time": 50,
    "paypal-transmission-sig": 1_500,
    "paypal-cert-url": 200,
    "paypal-auth-algo": 50,
}


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
    for name, longest in _LONGEST.items():
        if name not in headers:
            raise Refused("signature", f"there is no {name}")
        if not headers[name].isascii() or not headers[name].isprintable() or len(headers[name]) > longest:
            raise Refused("signature", f"its {name} is none")
    text = headers["paypal-transmission-sig"]
    try:
        signature = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("signature", "it is not base64") from None
    sent = Transmission(
        id=headers["paypal-transmission-id"],
        time=headers["paypal-transmission-time"],
        signature=signature,
        signature_text=text,
        certificate_url=headers["paypal-cert-url"],
        algorithm=headers["paypal-auth-algo"],
    )
    if not _ID.fullmatch(sent.id):
        raise Refused("signature", "its paypal-transmission-id is none")
    if sent.algorithm != "SHA256withRSA":
        # It comes from the request: whoever could choose it would choose the weakest.
        raise Refused("signature", "its algorithm is not SHA256withRSA")
    return sent


def signed_text(sent: Transmission, webhook_id: str, body: bytes) -> bytes:
    """The bytes that PayPal signs."""
    return f"{sent.id}|{sent.time}|{webhook_id}|{zlib.crc32(body)}".encode()


@dataclass(slots=True)
class PayPal:
    """Checks PayPal's webhooks.

    Parameters:
      webhook_id: of our webhook, from PayPal's dashboard; part of what is signed.
      certificates: those that it may be signed with.
      way: ``offline``, ``postback`` or ``lookup``.
      api: for the postback and the lookup.
    """

    webhook_id: str
    certificates: Certificates = field(default_factory=Certificates)
    way: Literal["offline", "postback", "lookup"] = "offline"
    api: PayPalApi | None = None
    _questions: Questions = field(default_factory=lambda: Questions(in_all=60, of_one=30), repr=False)
    _of_transmission: Rates = field(default_factory=lambda: Rates(_QUESTIONS_OF_ONE), repr=False)

    def check(self, sent: Transmission, body: bytes, *, now_seconds: float, address: str = "") -> None:
        """Raises Refused when the signature is not PayPal's, Unverifiable when that cannot be said now."""
        if self.way != "postback":
            certificate = self.certificates.get(sent.certificate_url, now_seconds=now_seconds, address=address)
            check_signature(certificate, sent, self.webhook_id, body)
        elif not self._asked(sent, address, lambda api: api.verify_webhook(self._said_by(sent), body)):
            raise Refused("signature", "PayPal says it is not its own")
        else:
            self._questions.give_back(address)  # only what was for nothing is bounded

    def look_up(self, event_id: str, sent: Transmission, *, address: str = "") -> dict[str, Any]:
        """The event as PayPal has it, whatever the request says of it. Raises Refused, Unverifiable."""
        if not _EVENT_ID.fullmatch(event_id):
            raise Refused("unusable", "its id is none of PayPal's")
        # One that PayPal does not show yet comes again.
        event = self._asked(sent, address, lambda api: api.get(f"/v1/notifications/webhooks-events/{event_id}", {}))
        if event.get("id") != event_id:
            raise Refused("signature", "PayPal has another event under its id")
        self._questions.give_back(address)
        return event

    def _asked(self, sent: Transmission, address: str, question: Callable[[PayPalApi], T]) -> T:
        from fourlane.providers.payments import ProviderError

        if self.api is None:
            raise Refused("not configured", f"the {self.way} needs PayPal's client id and secret")
        if wait_seconds := self._of_transmission.wait(sent.id):
            raise Refused("rate", "its transmission comes too often", after_seconds=wait_seconds)
        with self._questions.place():
            self._questions.spend(address)
            try:
                return question(self.api)
            except ProviderError as error:
                raise Unverifiable(f"PayPal was asked and did not say: {error}") from error

    def _said_by(self, sent: Transmission) -> dict[str, str]:
        return {
            "auth_algo": sent.algorithm,
            "cert_url": sent.certificate_url,
            "transmission_id": sent.id,
            "transmission_sig": sent.signature_text,
            "transmission_time": sent.time,
            "webhook_id": self.webhook_id,
        }


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
