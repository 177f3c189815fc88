"""What is refused before a job is enqueued, and costs nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourlane.errors import InvalidArguments
from fourlane.storage.inputs import Inputs
from tests.providers.http.servers import Internet


def nothing() -> NoReturn:
    raise AssertionError("nothing is opened")


STRICT = Inputs(nothing)
LOCAL = Inputs(nothing, http=True)
OPEN = Inputs(nothing, http=True, allow_private=True)
PRIVATE = [
    ("http://localhost/x.png", "a loopback address"),
    ("http://LOCALHOST./x.png", "a loopback address"),
    ("http://a.localhost:8000/x.png", "a loopback address"),
    ("http://127.0.0.1/x.png", "a loopback address"),
    ("http://127.1/x.png", "a loopback address"),
    ("http://2130706433/x.png", "a loopback address"),
    ("http://0x7f.0.0.1/x.png", "a loopback address"),
    ("http://[::1]/x.png", "a loopback address"),
    ("http://[::ffff:127.0.0.1]/x.png", "a loopback address"),
    ("http://10.1.2.3/x.png", "a private address"),
    ("http://192.168.0.1:8080/x.png", "a private address"),
    ("http://[fd00::1]/x.png", "a private address"),
]
NEVER = [
    ("http://169.254.169.254/latest/meta-data/", "a link-local address"),
    ("http://100.100.100.200/", "a cloud metadata service"),
    ("http://0.0.0.0/", "an unspecified address"),
    ("ftp://example.com/x.png", "ftp: is no way to name a file"),
    ("file:///etc/passwd", "file: is no way"),
    ("FILE:/etc/passwd", "file: is no way"),
    ("javascript:alert(1)", "javascript: is no way"),
    ("s3://bucket/key", "s3: is no way"),
    ("https://", "host is malformed"),
    ("https://user:hush@example.com/x.png", "must not carry a user name or password"),
    ("https://example.com:22/x.png", "port 22 is not allowed"),
    ("https://[", "malformed"),
    ("https://0177.0.0.1/x.png", "malformed"),
    ("https://exa mple.com/", "malformed"),
    ("https://example.com/" + "x" * 9_000, "too long"),
    ("storage:", "no name of a file"),
    ("storage:../../etc/passwd", "no name of a file"),
    ("storage:ai/acme/j", "no name of a file"),
    ("data:image/png;base64", "a data: URL is"),
    ("data:image/png;base64,!!!", "cannot be read"),
    ("data:image/png;base64,AAA", "cannot be read"),
    ("photo.png", "FOURLANE_FILES_DIR names none"),
    ("/etc/passwd", "FOURLANE_FILES_DIR names none"),
    ("", "a source is a text"),
    (None, "a source is a text"),
    (b"https://example.com/", "a source is a text"),
]


@pytest.mark.parametrize(("source", "why"), PRIVATE + NEVER)
def test_refused(source: str, why: str) -> None:
    with pytest.raises(InvalidArguments, match=why) as caught:
        LOCAL.check(source)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(("source", "why"), NEVER)
def test_refused_also_where_private_addresses_are_allowed(source: str, why: str) -> None:
    with pytest.raises(InvalidArguments, match=why):
        OPEN.check(source)


@pytest.mark.parametrize("source", [source for source, _ in PRIVATE])
def test_private_addresses_where_they_are_allowed(source: str) -> None:
    OPEN.check(source)


@pytest.mark.parametrize(
    "source",
    [
        "https://example.com/a/photo.png?signature=x#top",
        "HTTPS://EXAMPLE.COM",
        "https://93.184.216.34:8443/x",
        "https://[2606:2800:220:1::1]/x",
        "https://localhost.example.com/x",
        "https://never-asked.invalid/x",  # names are asked when it is read
        "storage:ai/acme/1P7T/image.png",
        "storage:ai/-/1P7T/image.png",
        "data:image/png;base64,iVBORw0KGgo=",
        "data:text/plain;charset=utf-8;base64,aGk=",
        "data:,hello%20there",
        "DATA:text/plain,hi",
    ],
)
def test_taken(source: str, internet: Internet) -> None:
    STRICT.check(source)
    assert internet.lookups == []


def test_without_tls_in_the_local_environment_alone() -> None:
    LOCAL.check("http://example.com/x.png")
    with pytest.raises(InvalidArguments, match="must begin with https://"):
        STRICT.check("http://example.com/x.png")


@pytest.mark.parametrize(
    ("source", "tenant", "is_theirs"),
    [
        ("storage:ai/acme/j/x", "acme", True),
        ("storage:ai/acme/j/x", "", True),  # what the platform itself asks for
        ("storage:ai/acme/j/x", "bird", False),
        ("storage:ai/-/j/x", "acme", False),
        ("storage:ai/%2D/j/x", "-", True),
        ("storage:ai/-/j/x", "-", False),
    ],
)
def test_a_tenant_reads_its_own_alone(source: str, tenant: str, is_theirs: bool) -> None:
    if is_theirs:
        STRICT.check(source, tenant=tenant)
        return
    with pytest.raises(InvalidArguments, match="is not of the tenant"):
        STRICT.check(source, tenant=tenant)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a file, a file in a folder, links within and out, and a pipe."""
    folder = tmp_path / "files"
    (folder / "a/b").mkdir(parents=True)
    (folder / "photo.png").write_bytes(b"x")
    (folder / "a/b/c.txt").write_bytes(b"x")
    (tmp_path / "secret.txt").write_bytes(b"x")
    (tmp_path / "files-of-others").mkdir()
    (tmp_path / "files-of-others/x.txt").write_bytes(b"x")
    (folder / "within").symlink_to("a/b/c.txt")
    (folder / "out").symlink_to("../secret.txt")
    (folder / "up").symlink_to("..")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("path", ["photo.png", "./photo.png", "a/b/c.txt", "a/../photo.png", "within", "{}/a/b/c.txt"])
def test_paths_of_the_folder(folder: Path, path: str) -> None:
    Inputs(nothing, folder=folder).check(path.format(folder))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../secret.txt", "is not in the folder"),
        ("a/../../secret.txt", "is not in the folder"),
        ("../files-of-others/x.txt", "is not in the folder"),
        ("/etc/passwd", "is not in the folder"),
        ("out", "is not in the folder"),
        ("up/secret.txt", "is not in the folder"),
        ("up/files/photo.png", None),  # out and in again
        (".", "is not in the folder"),
        ("..", "is not in the folder"),
        ("none.png", "is not there"),
        ("photo.png/x", "is not there"),
        ("a", "is no file"),
        ("pipe", "is no file"),
        ("circle", "is no path|is not there"),
        ("a\0b", "is no path"),
        ("\ud83d", "is not there|is no path"),
    ],
)
def test_paths_that_are_refused(folder: Path, path: str, why: str | None) -> None:
    if why is None:
        Inputs(nothing, folder=folder).check(path)
        return
    with pytest.raises(InvalidArguments, match=why):
        Inputs(nothing, folder=folder).check(path)


def test_where_the_folder_is_not_seen(tmp_path: Path) -> None:
    """As in a web tier: what is there, workers know."""
    inputs = Inputs(nothing, folder=tmp_path / "none")
    inputs.check("photo.png")
    with pytest.raises(InvalidArguments, match="is not in the folder"):
        inputs.check("../photo.png")


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_the_check(text: str) -> None:
    for source in (text, f"https://{text}", f"data:{text}", f"data:,{text}", f"storage:{text}"):
        for inputs in (STRICT, LOCAL, Inputs(nothing, folder=Path("/none"))):
            try:
                inputs.check(source, tenant="acme")
            except InvalidArguments:
                pass
