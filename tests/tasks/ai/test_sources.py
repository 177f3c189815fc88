"""Files that go to models: what is refused at enqueue, what is read, and what encrypted jobs keep."""

from __future__ import annotations

import asyncio
import base64

import pytest

from fourlane.errors import InvalidArguments, Reject
from fourlane.tasks.ai.media.sources import check_sources, read_media

PNG = b"\x89PNG\r\n\x1a\nthe rest"
PICTURE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def test_files_come_in_their_order() -> None:
    words = f"data:text/plain;base64,{base64.b64encode(b'hello').decode()}"
    read = asyncio.run(read_media([words, PICTURE], tenant=None, kinds=["text/*", "image/png"], most_bytes=1_000))
    assert [(media.media_type, media.data) for media in read] == [("text/plain", b"hello"), ("image/png", PNG)]


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ("storage:ai/acme/1/x.png", "a list of texts"),  # one text is many sources of one letter
        ([PICTURE] * 3, "at most 2"),
        (["file:///etc/passwd"], "no way to name a file"),
        (["storage:ai/others/1/x.png"], "not of the tenant"),
        ([7], "a source is a text"),
    ],
)
def test_what_can_be_known_is_refused_at_enqueue(sources: list[str], said: str) -> None:
    with pytest.raises(InvalidArguments, match=said):
        check_sources(sources, tenant="acme", most=2)


def test_all_together_are_no_larger_than_allowed() -> None:
    with pytest.raises(Reject, match="together"):
        asyncio.run(read_media([PICTURE] * 3, tenant=None, kinds=["image/*"], most_bytes=40))


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(Reject, match="image/png"):
        asyncio.run(read_media([PICTURE], tenant=None, kinds=["audio/*"], most_bytes=1_000))
