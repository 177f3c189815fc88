"""What was paid for is kept, whatever fails just then: storage, Redis, the job's own steps, a cancel."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fourlane
from examples.ai.media import png
from examples.ai.provider import Provider, Script
from fourlane import crypto
from fourlane.errors import EncryptionError, JobCancelled, JobFailed
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import Budgets
from fourlane.root import root
from fourlane.storage.setup import storage
from fourlane.tasks import ai
from fourlane.tasks.ai.money.spent import month_now
from fourlane.tasks.ai.paid import shelf
from fourlane.tasks.ai.paid.kept import cleaned
from fourlane.tasks.ai.paid.sealed import SEALED
from tests.conftest import served_at
from tests.proxy import FaultyProxy
from tests.servers import eventually
from tests.storage.conftest import bucket as bucket
from tests.storage.conftest import moto_server as moto_server
from tests.worker.conftest import RunWorker

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SOON = fourlane.Backoff(50, 200)
LONG = "word " * 60_000


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that fails is tried again for a second."""
    monkeypatch.setattr(shelf, "_PATIENCE_SECONDS", 1.2)


class Breakable:
    """A folder for files, which can be made to fail as a disk does that is no longer there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._away = folder.with_name("away")

    def breaks(self) -> None:
        if self._folder.exists():
            self._folder.rename(self._away)
        self._folder.write_bytes(b"")

    def mend(self) -> None:
        self._folder.unlink()
        if self._away.exists():
            self._away.rename(self._folder)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Breakable:
    folder = tmp_path / "storage"
    monkeypatch.setenv("FOURLANE_STORAGE", f"disk:{folder}")
    return Breakable(folder)


def while_answering(provider: Provider, act: Callable[[], object], number: int = 1) -> threading.Thread:
    """Act once a request is there, before it is answered."""
    provider.latency_seconds = 0.5

    def wait() -> None:
        eventually(lambda: len(provider.requests) >= number, 20)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("place", ["disk", "s3", "database"])
def test_files_and_large_answers_are_kept_wherever_files_are(
    asked: Any,
    broker: RedisBroker,
    run_worker: RunWorker,
    provider: Provider,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    if place == "s3":
        monkeypatch.setenv("FOURLANE_STORAGE", f"s3://{request.getfixturevalue('bucket')}/ours")
    elif place == "database":
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("migrated_sqlite_url"))
    provider.scripts.append(Script(pieces=(LONG,)))

    @fourlane.task(broker=broker, result_ttl_ms=60_000, backoff=SOON)
    async def both() -> Any:
        text = await ai.call("generate", "hello", tenant="acme")
        image = await ai.image("a fox 300 kB", tenant="acme")
        if fourlane.current_job().attempt == 1:  # type: ignore[union-attr]
            raise RuntimeError("as planned")
        return [len(text["text"]), image["files"]]

    run_worker(broker)
    length, [file] = both.send().result(30)
    assert length == len(LONG)
    assert root().part(storage).get(file).data == png("a fox 300 kB0", 300)
    assert len(provider.requests) == 2


def test_storage_that_does_not_work_fails_for_nothing_paid(
    disk: Breakable, asked: Any, broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    disk.breaks()

    @fourlane.task(broker=broker, result_ttl_ms=60_000, max_retries=0)
    async def paint() -> Any:
        return await ai.image("a fox")

    run_worker(broker)
    with pytest.raises(JobFailed, match="a file lies where a folder should be"):
        paint.send().result(20)
    assert provider.requests == []


def test_storage_that_fails_after_the_payment_is_waited_for(
    disk: Breakable, asked: Any, broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    @fourlane.task(broker=broker, result_ttl_ms=60_000, max_retries=0)
    async def paint() -> Any:
        return (await ai.image("a fox"))["files"]

    run_worker(broker)
    thread = while_answering(provider, disk.breaks)
    job = paint.send()
    thread.join()
    time.sleep(1)  # it was tried, and is tried again
    disk.mend()
    [file] = job.result(20)
    assert root().part(storage).get(file).data == png("a fox0")
    assert len(provider.requests) == 1


@pytest.mark.usefixtures("hasty")
def test_files_wait_on_this_host_while_storage_is_away(
    disk: Breakable,
    asked: Any,
    broker: RedisBroker,
    run_worker: RunWorker,
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @fourlane.task(broker=broker, result_ttl_ms=60_000, backoff=fourlane.Backoff(500, 500), max_retries=20)
    async def paint() -> Any:
        return (await ai.image("a fox"))["files"]

    run_worker(broker)
    thread = while_answering(provider, disk.breaks)
    job = paint.send()
    thread.join()
    eventually(lambda: any("lies on the disk of this host" in record.message for record in caplog.records), 20)
    disk.mend()
    [file] = job.result(20)
    assert root().part(storage).get(file).data == png("a fox0")
    assert len(provider.requests) == 1
    assert not list((root().settings.data_dir / "kept").rglob("*.png"))


@pytest.mark.usefixtures("hasty")
def test_what_can_be_kept_nowhere_is_a_dead_letter_and_not_paid_for_again(
    disk: Breakable, asked: Any, broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    @fourlane.task(broker=broker, result_ttl_ms=60_000, backoff=SOON)
    async def paint() -> Any:
        return await ai.image("a fox")

    def break_both() -> None:
        disk.breaks()
        kept = root().settings.data_dir / "kept"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(b"")

    run_worker(broker)
    thread = while_answering(provider, break_both)
    job = paint.send()
    thread.join()
    with pytest.raises(JobFailed, match="is paid for and could not be kept"):
        job.result(20)
    assert len(provider.requests) == 1


@pytest.mark.usefixtures("hasty")
def test_a_text_is_recorded_all_the_same_while_storage_is_away(
    disk: Breakable, asked: Any, broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    disk.breaks()
    provider.scripts.append(Script(pieces=(LONG,)))

    @fourlane.task(broker=broker, result_ttl_ms=60_000, backoff=SOON)
    async def long() -> Any:
        text = (await ai.call("generate", "hello"))["text"]
        if fourlane.current_job().attempt == 1:  # type: ignore[union-attr]
            raise RuntimeError("as planned")
        return len(text)

    run_worker(broker)
    assert long.send().result(20) == len(LONG)
    assert len(provider.requests) == 1


def test_other_steps_leave_little_room(
    asked: Any, broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    provider.scripts.append(Script(pieces=("word " * 2_000,)))

    @fourlane.task(broker=broker, result_ttl_ms=60_000, max_retries=1, backoff=SOON)
    async def crowded(left: int) -> Any:
        await fourlane.step.run("mine", lambda: "x" * (1_048_576 - left))
        text = (await ai.call("generate", "hello"))["text"]
        if fourlane.current_job().attempt == 1:  # type: ignore[union-attr]
            raise RuntimeError("as planned")
        return len(text)

    run_worker(broker)
    assert crowded.send(9_000).result(20) == 10_000
    assert len(provider.requests) == 1
    with pytest.raises(JobFailed, match="nobody was asked"):
        crowded.send(2_000).result(20)
    assert len(provider.requests) == 1


def test_redis_is_away_just_after_the_answer(
    asked: Any,
    redis_url: str,
    namespace: str,
    proxy: FaultyProxy,
    run_worker: RunWorker,
    provider: Provider,
) -> None:
    def away() -> None:
        proxy.refuse()
        proxy.cut()

    with served_at(proxy.url(redis_url), namespace=namespace) as broker:

        @fourlane.task(broker=broker, result_ttl_ms=60_000, backoff=SOON)
        async def ask() -> Any:
            return (await ai.call("generate", "hello"))["text"]

        run_worker(broker)
        job = ask.send()
        thread = while_answering(provider, away)
        thread.join()
        time.sleep(4)
        proxy.accept()
        assert job.result(40) == "You said: hello "
        assert len(provider.requests) == 1


def test_a_cancel_amid_the_keeping_leaves_books_that_are_right(
    asked: Any,
    broker: RedisBroker,
    run_worker: RunWorker,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = threading.Event()
    put = shelf.Shelf.put

    async def slowly(self: Any, files: Any, *rest: Any) -> None:
        if len(files) > 1:
            begun.set()
            job = fourlane.current_job()
            while job is not None and not job.cancel_token:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
        await put(self, files, *rest)

    monkeypatch.setattr(shelf.Shelf, "put", slowly)

    @fourlane.task(broker=broker, result_ttl_ms=60_000)
    async def paint() -> Any:
        return await ai.image("a fox", tenant="acme")

    loop = run_worker(broker)
    job = paint.send()
    assert begun.wait(20)
    job.cancel()
    loop.told_cancelled({job.id})
    with pytest.raises(JobCancelled):
        job.result(20)
    books = Budgets(broker.store)
    assert list(books.reservations()) == []
    assert "model:openai/gpt-image-2.5-flare" in books.look("acme", month_now()).of
    assert root().part(storage).get(f"storage:ai/acme/{job.id}/image.1.png").data == png("a fox0")


@pytest.fixture
def keys() -> Iterator[None]:
    crypto.configure(crypto.Keyring([crypto.new_key()]))
    yield
    crypto.configure(None)


@pytest.mark.usefixtures("keys")
def test_what_an_encrypted_job_keeps_is_sealed(
    asked: Any, broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    provider.scripts.append(Script(pieces=(LONG,)))

    @fourlane.task(broker=broker, result_ttl_ms=60_000, backoff=SOON, encrypt=True)
    async def secret() -> Any:
        text = (await ai.call("generate", "hello", tenant="acme"))["text"]
        image = await ai.image("a fox", tenant="acme")
        if fourlane.current_job().attempt == 1:  # type: ignore[union-attr]
            raise RuntimeError("as planned")
        edited = await ai.image("as a drawing", images=image["files"], tenant="acme", name="edited")
        return [len(text), *image["files"], *edited["files"]]

    @fourlane.task(broker=broker, result_ttl_ms=60_000, max_retries=0)
    async def plain(ref: str) -> Any:
        return await ai.image("as a drawing", images=[ref])

    run_worker(broker)
    job = secret.send()
    length, image, edited = job.result(30)
    assert (length, len(provider.requests)) == (len(LONG), 3)
    for ref in (image, edited, f"storage:ai/acme/{job.id}/generate.json"):
        found = root().part(storage).get(ref)
        assert (found.media_type, b"\x89PNG\r\n" in found.data, LONG[:40].encode() in found.data) == (
            SEALED,
            False,
            False,
        )
    assert asyncio.run(ai.read_file(image)).data == png("a fox0")  # by a program that has the keys
    with pytest.raises(JobFailed, match="only a task with encrypt=True may read it"):
        plain.send(image).result(20)
    # In the place of another, it is noticed.
    place = root().part(storage)
    place.put(edited.removeprefix("storage:"), place.get(image).data, SEALED)
    with pytest.raises(EncryptionError):
        asyncio.run(ai.read_file(edited))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("hello \ud83d", "hello \ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\0", "\0"),
        ({"a\udc00": [1, "b\ud800", None]}, {"a\ufffd": [1, "b\ufffd", None]}),
        (float("nan"), None),
        ((1.5, float("inf")), [1.5, None]),
    ],
)
def test_whatever_an_answer_has_json_can_carry_it(given: Any, kept: Any) -> None:
    assert cleaned(given) == kept
