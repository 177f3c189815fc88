"""Where traces, reports and webhooks of these tests go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.observe.receivers import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running
