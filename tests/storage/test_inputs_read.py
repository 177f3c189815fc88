"""What a job reads: URLs over real sockets, references, data: URLs, files of the folder."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourlane.errors import InputUnavailable, InvalidArguments, NotStored, Reject
from fourlane.storage import blob as blobs
from fourlane.storage import folder as files
from fourlane.storage import inputs as module
from fourlane.storage.blob import Blob
from fourlane.storage.disk import DiskStorage
from fourlane.storage.inputs import Inputs
from fourlane.storage.media import AUDIO, IMAGES, TEXTS
from tests.providers.http.servers import PUBLIC, Internet, Request, Server, ServerFactory, read_request, redirect_to

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100
MP3 = b"ID3\x04" + b"x" * 100
MOST = 1_000
Answer = Callable[[Request], bytes]


def answer(body: bytes, media_type: str = "image/png", *headers: str, status: int = 200) -> Answer:
    head = "".join(f"{header}\r\n" for header in (f"content-type: {media_type}", *headers))
    return lambda _: f"HTTP/1.1 {status} X\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def storage(tmp_path: Path) -> DiskStorage:
    return DiskStorage(tmp_path / "stored")


@pytest.fixture
def inputs(tmp_path: Path, storage: DiskStorage) -> Inputs:
    (tmp_path / "files").mkdir()
    return Inputs(lambda: storage, folder=tmp_path / "files", http=True)


@pytest.fixture
def world(internet: Internet) -> Internet:
    """In which files.example is a public address, inside.example is not, and local names are local."""
    internet.dns("files.example", [PUBLIC])
    internet.dns("inside.example", ["10.1.2.3"])
    internet.dns("localhost", ["127.0.0.1"])
    return internet


def read(inputs: Inputs, source: str, **options: Any) -> Blob:
    return inputs.read_now(source, **{"allowed": IMAGES, "most_bytes": MOST} | options)


def at(world: Internet, server: Server) -> str:
    """The URL of a file of this server."""
    world.routes[PUBLIC] = server.port
    return "http://files.example/a/My%20photo.jpeg?signature=hush"


def test_a_url(inputs: Inputs, world: Internet, serve: ServerFactory) -> None:
    server = serve(answer(PNG))
    blob = asyncio.run(inputs.read(at(world, server), allowed=IMAGES, most_bytes=MOST))
    assert blob == Blob(PNG, "image/png", "My_photo.png")
    assert server.requests[0].line == "GET /a/My%20photo.jpeg?signature=hush HTTP/1.1"


@pytest.mark.parametrize(
    ("body", "media_type", "allowed", "found"),
    [
        (PNG, "application/octet-stream", IMAGES, "image/png"),
        (PNG, "image/jpeg", IMAGES, "image/png"),
        (PNG, "", {"image/*"}, "image/png"),
        (MP3, "audio/mpeg; x=1", AUDIO, "audio/mpeg"),
        (b"a,b", "text/csv", TEXTS, "text/csv"),
        (PNG, "image/png", AUDIO, None),
        (b"<html>log in</html>", "text/html", IMAGES, None),
        (b"<html>log in</html>", "image/png", IMAGES, None),
        (b"", "image/png", IMAGES, None),
    ],
)
def test_what_a_url_is(
    inputs: Inputs, world: Internet, serve: ServerFactory, body: bytes, media_type: str, allowed: Any, found: str | None
) -> None:
    url = at(world, serve(answer(body, media_type)))
    if found is None:
        with pytest.raises(Reject, match=r"http://files\.example is (application|image|text|empty)") as caught:
            read(inputs, url, allowed=allowed)
        assert "hush" not in str(caught.value)
        return
    assert read(inputs, url, allowed=allowed).media_type == found


@pytest.mark.parametrize(("size", "fits"), [(MOST, True), (MOST + 1, False), (10 * MOST, False)])
def test_what_is_too_large(inputs: Inputs, world: Internet, serve: ServerFactory, size: int, fits: bool) -> None:
    url = at(world, serve(answer(PNG.ljust(size, b"x"))))
    if fits:
        assert len(read(inputs, url).data) == size
        return
    with pytest.raises(Reject, match="has more than the 1,000 bytes that are allowed"):
        read(inputs, url)


def test_a_body_without_end(inputs: Inputs, world: Internet, serve: ServerFactory) -> None:
    hung_up = threading.Event()

    def pour(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n")
        try:
            while not server.stopping.is_set():
                conn.sendall(PNG * 1_000)
        except OSError:
            hung_up.set()

    server = serve(talk=pour)
    with pytest.raises(Reject, match="more than"):
        read(inputs, at(world, server))
    assert hung_up.wait(5)


@pytest.mark.parametrize("length", ["100000", "5"])
def test_a_length_that_is_a_lie(inputs: Inputs, world: Internet, serve: ServerFactory, length: str) -> None:
    """Never a part that is taken for the whole, unless the server itself says that it is."""

    def lie(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(f"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: {length}\r\n\r\n".encode() + PNG)

    with pytest.raises((InputUnavailable, Reject)):
        read(inputs, at(world, serve(talk=lie)))


def test_a_dripping_server(
    inputs: Inputs, world: Internet, serve: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 0.3)

    def drip(conn: socket.socket) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
        while not server.stopping.wait(0.02):
            conn.sendall(b"x")

    server = serve(talk=drip)
    started = time.monotonic()
    with pytest.raises(InputUnavailable, match=r"^http://files\.example could not be read: timeout"):
        read(inputs, at(world, server))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://127.0.0.1:{port}/admin", "loopback"),
        ("http://localhost:{port}/admin", "loopback"),
        ("http://169.254.169.254/latest/meta-data/", "link-local"),
        ("file:///etc/passwd", "must begin with"),
        ("http://user:hush@files.example/", "must not carry"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_into_our_network(
    inputs: Inputs, world: Internet, serve: ServerFactory, location: str, why: str, status: int
) -> None:
    inside = serve(answer(PNG))
    server = serve(redirect_to(location.format(port=inside.port), status))
    url = at(world, server)
    world.routes |= {"127.0.0.1": inside.port, "10.1.2.3": inside.port}
    with pytest.raises(Reject, match=why):
        read(inputs, url)
    assert inside.connections == 0


def test_a_name_that_leads_into_our_network(inputs: Inputs, world: Internet, serve: ServerFactory) -> None:
    inside = serve(answer(PNG))
    world.routes["10.1.2.3"] = inside.port
    errors = []
    for name in ("inside", "nobodys"):  # one name is ours, the other nobody's: a stranger must not learn which
        with pytest.raises(InputUnavailable) as caught:
            read(inputs, f"http://{name}.example/x.png")
        errors.append(str(caught.value).replace(name, "NAME"))
    assert errors == ["http://NAME.example could not be read: DNS: the name leads to no address that may be called"] * 2
    assert inside.connections == 0


def test_a_redirect_to_a_name_of_our_network(inputs: Inputs, world: Internet, serve: ServerFactory) -> None:
    inside = serve(answer(PNG))
    world.routes["10.1.2.3"] = inside.port
    with pytest.raises(InputUnavailable, match="DNS"):
        read(inputs, at(world, serve(redirect_to("//inside.example/admin", 302))))
    assert inside.connections == 0


def test_redirects_are_followed_and_bounded(inputs: Inputs, world: Internet, serve: ServerFactory) -> None:
    def by_steps(request: Request) -> bytes:
        step = int(request.line.split()[1].rpartition("/")[2] or 0) if "/step" in request.line else 0
        return answer(PNG)(request) if step == wanted else redirect_to(f"/step/{step + 1}", 302)(request)

    url = at(world, serve(by_steps))
    wanted = 3
    assert read(inputs, url).data == PNG
    wanted = 4
    with pytest.raises(Reject, match="answered HTTP 302"):
        read(inputs, url)


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (404, False),
        (403, False),
        (401, False),
        (410, False),
        (206, False),
        (429, True),
        (408, True),
        (500, True),
        (503, True),
    ],
)
def test_what_a_server_answers_otherwise(
    inputs: Inputs, world: Internet, serve: ServerFactory, status: int, again: bool
) -> None:
    url = at(world, serve(answer(PNG, status=status)))
    with pytest.raises(InputUnavailable if again else Reject, match=rf"^http://files\.example answered HTTP {status}$"):
        read(inputs, url)


def test_a_server_that_is_not_there(inputs: Inputs, world: Internet) -> None:
    with pytest.raises(InputUnavailable, match="could not be read: connection refused"):
        read(inputs, "http://files.example/x.png")


def test_what_nobody_asked_to_be_compressed(inputs: Inputs, world: Internet, serve: ServerFactory) -> None:
    with pytest.raises(Reject, match="is sent compressed"):
        read(inputs, at(world, serve(answer(b"\x1f\x8b", "image/png", "content-encoding: gzip"))))


def test_slow_servers_hold_up_nobody_on_the_loop(inputs: Inputs, world: Internet, serve: ServerFactory) -> None:
    """More of them than the event loop has threads."""
    go_on = threading.Event()

    def late(request: Request) -> bytes:
        go_on.wait(20)
        return answer(PNG)(request)

    url = at(world, serve(late))

    async def main() -> list[Blob]:
        slow = [asyncio.create_task(inputs.read(url, allowed=IMAGES, most_bytes=MOST)) for _ in range(20)]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: "at once") == "at once"
        assert not any(task.done() for task in slow)
        go_on.set()
        return await asyncio.gather(*slow)

    assert len(asyncio.run(main())) == 20


def test_a_reference(inputs: Inputs, storage: DiskStorage) -> None:
    ref = storage.put("ai/acme/j/image%3A1.png", PNG, "image/png")
    assert read(inputs, ref, tenant="acme") == Blob(PNG, "image/png", "image_1.png")
    assert read(inputs, ref).data == PNG
    with pytest.raises(Reject, match="is not of the tenant 'bird'"):
        read(inputs, ref, tenant="bird")
    with pytest.raises(Reject, match="more than the 5 bytes"):
        read(inputs, ref, most_bytes=5)
    with pytest.raises(Reject, match="allowed: audio/"):
        read(inputs, ref, allowed=AUDIO)
    with pytest.raises(NotStored):
        read(inputs, "storage:ai/acme/j/none.png")


@pytest.mark.parametrize(
    ("url", "blob"),
    [
        ("data:image/png;base64," + base64.b64encode(PNG).decode(), Blob(PNG, "image/png", "file.png")),
        ("data:;base64," + base64.b64encode(PNG).decode(), Blob(PNG, "image/png", "file.png")),
        ("data:,a%20b", Blob(b"a b", "text/plain", "file.txt")),
        ("data:text/csv;charset=utf-8,a%2Cb", Blob(b"a,b", "text/csv", "file.csv")),
        ("data:image/png;base64," + base64.b64encode(b"x" * (MOST + 1)).decode(), None),
        ("data:image/png;base64," + base64.b64encode(b"<html>").decode(), None),
    ],
)
def test_a_data_url(inputs: Inputs, url: str, blob: Blob | None) -> None:
    if blob is None:
        with pytest.raises(Reject, match="the data: URL"):
            read(inputs, url)
        return
    assert read(inputs, url, allowed=IMAGES | TEXTS) == blob


def test_a_path(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "files/a").mkdir()
    (tmp_path / "files/a/photo").write_bytes(PNG)
    (tmp_path / "files/link.jpg").symlink_to("a/photo")
    assert read(inputs, "a/photo") == Blob(PNG, "image/png", "photo.png")
    assert read(inputs, f"{tmp_path}/files/a/photo").data == PNG
    assert read(inputs, "link.jpg").name == "link.png"
    (tmp_path / "files/large.png").write_bytes(PNG.ljust(MOST + 1))
    with pytest.raises(Reject, match="more than"):
        read(inputs, "large.png")


@pytest.mark.parametrize("path", ["none.png", "../secret.png", "out.png", "folder", "pipe"])
def test_paths_that_are_not_read(inputs: Inputs, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "files/out.png").symlink_to("../secret.png")
    (tmp_path / "files/folder").mkdir()
    os.mkfifo(tmp_path / "files/pipe")
    with pytest.raises(Reject):
        read(inputs, path)


@pytest.mark.parametrize("changed", ["a/photo.png", "a"])
def test_what_becomes_a_link_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    """Between the look and the opening."""
    folder, others = tmp_path / "files", tmp_path / "others"
    for each in (folder / "a", others):
        each.mkdir(parents=True)
        (each / "photo.png").write_bytes(PNG)
    find = files._find

    def change_then_find(*args: Any) -> Path:
        found = find(*args)
        (folder / changed).rename(tmp_path / "moved")
        (folder / changed).symlink_to(others if changed == "a" else others / "photo.png")
        return found

    monkeypatch.setattr(files, "_find", change_then_find)
    with pytest.raises(InvalidArguments, match="is not there"):
        files.read(folder, "a/photo.png", MOST)


@pytest.mark.parametrize(
    ("name", "media_type", "found"),
    [
        ("photo.png", "image/png", "photo.png"),
        ("photo.jpeg", "image/jpeg", "photo.jpeg"),
        ("photo", "image/png", "photo.png"),
        ("a.b", "audio/mpeg", "a.b.mp3"),
        ("../../x", "image/png", "x.png"),
        ("%2e%2e%2fx.png", "image/png", "x.png"),
        ("", "image/png", "file.png"),
        ("...", "image/png", "file.png"),
        ("a\r\nb: c.png", "image/png", "a_b_c.png"),
        ("ü" * 5, "image/png", "file.png"),
        ("x" * 500 + ".png", "image/png", "x" * 100 + ".png"),
        ("x", "application/x-foo", "x.bin"),
    ],
)
def test_names_of_files(name: str, media_type: str, found: str) -> None:
    """They go into requests to providers."""
    assert blobs._file_name(name, media_type) == found
