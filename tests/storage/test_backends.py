"""What all backends do alike."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from fourlane.errors import InvalidName, InvalidOption, NotStored, Reject
from fourlane.storage.names import file_name, reference
from fourlane.storage.store import Storage, Stored

NAME = "ai/acme/1P7T/image.png"
IMAGE = os.urandom(2_000_000)


def test_what_is_put_is_got(kept: Storage) -> None:
    ref = kept.put(NAME, IMAGE, "image/png")
    assert ref == reference(NAME) == "storage:ai/acme/1P7T/image.png"
    assert kept.get(ref) == Stored(IMAGE, "image/png")


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\n", b"text \xc3\xbc\r\n", b'{"media_type":"x"} 00000012 fourlane-file\n']
)
def test_bytes_come_back_as_they_are(kept: Storage, data: bytes) -> None:
    media_type = "audio/L16;codec=pcm;rate=24000"
    assert kept.get(kept.put(NAME, data, media_type)) == Stored(data, media_type)


def test_the_same_name_again_takes_its_place(kept: Storage) -> None:
    first = kept.put(NAME, b"one", "text/plain")
    assert kept.put(NAME, b"another", "text/markdown") == first
    assert kept.get(first) == Stored(b"another", "text/markdown")


def test_names_of_any_words(kept: Storage) -> None:
    names = [file_name("ai", tenant, "j", file) for tenant in ("", "-", "..", "ü/ü") for file in ("a", "A b.png", "..")]
    refs = {kept.put(name, name.encode(), "text/plain"): name for name in names}
    assert len(refs) == len(names)
    assert {ref: kept.get(ref).data.decode() for ref in refs} == refs


def test_what_is_not_there(kept: Storage) -> None:
    with pytest.raises(NotStored, match=r"^storage:ai/acme/1P7T/image\.png is not stored") as caught:
        kept.get(reference(NAME))
    assert isinstance(caught.value, Reject)  # a job's retry would not find it either
    kept.delete(reference(NAME))


def test_what_is_deleted_is_gone(kept: Storage) -> None:
    ref, other = kept.put(NAME, b"one", "text/plain"), kept.put("ai/-/2/x", b"two", "text/plain")
    kept.delete(ref)
    with pytest.raises(NotStored):
        kept.get(ref)
    assert kept.get(other).data == b"two"


@pytest.mark.parametrize("ref", ["storage:../../../etc/passwd", "storage:ai/t/j/..", "/etc/passwd", "s3://b/k", ""])
def test_wrong_references(kept: Storage, ref: str) -> None:
    for call in (kept.get, kept.delete, lambda ref: kept.url(ref, 60)):
        with pytest.raises(InvalidName):
            call(ref)
    with pytest.raises(InvalidName):
        kept.put(ref.removeprefix("storage:"), b"x", "text/plain")


@pytest.mark.parametrize("media_type", ["text/plain\r\nx: y", "grün", "x" * 300])
def test_wrong_media_types(kept: Storage, media_type: str) -> None:
    with pytest.raises(InvalidOption, match="no media type"):
        kept.put(NAME, b"x", media_type)


@pytest.mark.parametrize("seconds", [0, -1, 604_801])
def test_urls_hold_for_a_week_at_most(kept: Storage, seconds: int) -> None:
    with pytest.raises(InvalidOption):
        kept.url(reference(NAME), seconds)


def test_what_is_old_is_pruned(kept: Storage) -> None:
    refs = [kept.put(file_name("ai", "acme", str(n), "x.txt"), b"x", "text/plain") for n in range(3)]
    assert kept.prune(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert [kept.get(ref).data for ref in refs] == [b"x"] * 3
    assert kept.prune(datetime.now(UTC) + timedelta(hours=1)) == 3
    assert kept.prune(datetime.now(UTC) + timedelta(hours=1)) == 0
    for ref in refs:
        with pytest.raises(NotStored):
            kept.get(ref)


def test_readers_never_see_a_part(kept: Storage) -> None:
    """While a name is put again and again, with bytes of one kind each time."""
    wholes = [bytes([n]) * 300_000 for n in range(3)]
    ref = kept.put(NAME, wholes[0], "application/octet-stream")
    done = threading.Event()
    seen: list[bytes] = []

    def look() -> None:
        while not done.is_set():
            seen.append(kept.get(ref).data)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for n in range(1, 10):
            kept.put(NAME, wholes[n % 3], "application/octet-stream")
    finally:
        done.set()
        reader.join()
    assert set(seen) <= {*wholes}
    assert seen


def test_from_coroutines(kept: Storage) -> None:
    async def many() -> list[Stored]:
        names = [file_name("ai", "", str(n), "x.txt") for n in range(20)]
        refs = await asyncio.gather(*(kept.aput(name, name.encode(), "text/plain") for name in names))
        return await asyncio.gather(*(kept.aget(ref) for ref in refs))

    found = asyncio.run(many())
    assert [stored.data.decode() for stored in found] == [f"ai/-/{n}/x.txt" for n in range(20)]
