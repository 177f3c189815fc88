"""Body and headers of an attempt, signed by the Standard Webhooks scheme. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fourlane.errors import Reject

__all__ = ["encode", "sign", "signed"]


def signed(
    payload: Any,
    *,
    webhook_id: str,
    at_seconds: int,
    secrets: Sequence[str],
    headers: Mapping[str, str] | None = None,
) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of one attempt. Raises Reject as `sign` does, and for a payload that is not JSON."""
    body = encode(payload)
    given = {name.lower(): value for name, value in (headers or {}).items()}
    signature = sign(body, webhook_id=webhook_id, at_seconds=at_seconds, secret=secrets)
    return body, {"content-type": "application/json"} | given | signature


def encode(payload: Any) -> bytes:
    try:
        return json.dumps(payload, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise Reject(f"the payload is not JSON: {error}") from error


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
