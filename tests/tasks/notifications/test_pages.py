"""The pages as a server asks for them."""

from __future__ import annotations

import io
from typing import Any, cast

import pytest

from fourlane.tasks.notifications.ledger import Ledger
from fourlane.tasks.notifications.wsgi import Pages


@pytest.mark.parametrize("length", ["9" * 5_000, "1000001", "-1", "²", "٣", "0x5", "1e3"])
def test_odd_lengths_are_refused(length: str) -> None:
    statuses: list[str] = []
    pages = Pages(cast(Ledger, None), resend_secret="whsec_c2VjcmV0")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/resend",
        "CONTENT_LENGTH": length,
        "wsgi.input": io.BytesIO(b"{}"),
    }
    pages(environ, lambda status, _: statuses.append(status))
    assert statuses == ["400 Bad Request"]
