"""A folder: processes that are killed, that put at once, and disks that take nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fourlane.errors import NotStored, StorageUnavailable
from fourlane.storage.disk import DiskStorage
from fourlane.storage.names import reference

NAME = "ai/acme/1P7T/image.png"
REF = reference(NAME)
BYTES = 2_000_000
PUTTER = f"""
import sys
from pathlib import Path
from fourlane.storage.disk import DiskStorage
kept, name, digit, times = DiskStorage(Path(sys.argv[1])), sys.argv[2], sys.argv[3], int(sys.argv[4])
data = digit.encode() * {BYTES}
print("ready", flush=True)
for _ in range(times):
    kept.put(name, data, "text/" + digit)
"""
LATER = timedelta(hours=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def kept(folder: Path) -> DiskStorage:
    return DiskStorage(folder)


def putter(folder: Path, digit: str, times: int) -> subprocess.Popen[bytes]:
    """A process that puts a file of this digit so often; returns when it begins."""
    process = subprocess.Popen([sys.executable, "-c", PUTTER, folder, NAME, digit, str(times)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


def unready(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]


def test_who_is_killed_meanwhile_leaves_no_part(folder: Path, kept: DiskStorage) -> None:
    """What was there before, or all of what is new; and what lies beside it is pruned."""
    kept.put(NAME, b"0" * BYTES, "text/0")
    while len(unready(folder)) < 3:  # killed amid
        process = putter(folder, random.choice("123456789"), 100)
        time.sleep(random.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = kept.get(REF)
        assert (len(found.data), found.data) == (BYTES, found.data[:1] * BYTES)
        assert found.media_type == f"text/{found.data[:1].decode()}"
    assert kept.prune(datetime.now(UTC) + LATER) == 1
    assert [*folder.rglob("*")] == []


def test_processes_that_put_one_name_at_once(folder: Path, kept: DiskStorage) -> None:
    kept.put(NAME, b"0" * BYTES, "text/0")
    processes = [putter(folder, digit, 10) for digit in "12"]
    seen = [kept.get(REF)]
    while any(process.poll() is None for process in processes):
        seen.append(kept.get(REF))
    assert [process.wait() for process in processes] == [0, 0]
    assert {(found.data, found.media_type) for found in seen} <= {(d.encode() * BYTES, f"text/{d}") for d in "012"}
    assert kept.get(REF).media_type != "text/0"
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["image.png"]


def test_putting_while_others_prune(folder: Path, kept: DiskStorage) -> None:
    """Folders that are empty go, also those in which a file is about to be put."""
    process = putter(folder, "1", 50)
    while process.poll() is None:
        kept.prune(datetime.now(UTC) - LATER)
        kept.delete(REF)
    assert process.wait() == 0


def test_a_file_is_as_programs_know_it(folder: Path, kept: DiskStorage) -> None:
    """Behind its bytes is what programs that show it pass over."""
    kept.put(NAME, b"\x89PNG...", "image/png")
    assert (folder / NAME).read_bytes().startswith(b'\x89PNG...\n{"media_type":"image/png","sha256":"')


@pytest.mark.parametrize(
    "damage", [b"", b"x", b"\x89PNG...", b"00000012 fourlane-file\n", b"x ffffffff fourlane-file\n"]
)
def test_what_is_damaged_is_not_given(folder: Path, kept: DiskStorage, damage: bytes) -> None:
    kept.put(NAME, b"\x89PNG...", "image/png")
    (folder / NAME).write_bytes(damage)
    with pytest.raises(NotStored, match="damaged"):
        kept.get(REF)


def test_a_changed_byte_is_noticed(folder: Path, kept: DiskStorage) -> None:
    kept.put(NAME, b"\x89PNG...", "image/png")
    whole = bytearray((folder / NAME).read_bytes())
    whole[3] ^= 1
    (folder / NAME).write_bytes(whole)
    with pytest.raises(NotStored, match="damaged"):
        kept.get(REF)


def test_files_of_others_are_not_pruned(folder: Path, kept: DiskStorage) -> None:
    kept.put(NAME, b"x", "text/plain")
    others = [folder / "notes.txt", folder / "ai/acme/1P7T/.hidden", folder / "mine/fourlane-file"]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_text("mine")
    assert kept.prune(datetime.now(UTC) + LATER) == 1
    assert [other.read_text() for other in others] == ["mine"] * 3
    assert not (folder / NAME).exists()


def test_where_nothing_was_put_nothing_is_made(folder: Path, kept: DiskStorage) -> None:
    assert kept.prune(datetime.now(UTC) + LATER) == 0
    kept.delete(REF)
    with pytest.raises(NotStored):
        kept.get(REF)
    assert not folder.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode:
        pytest.skip("may not mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    kept = DiskStorage(small_disk)
    kept.put(NAME, b"before", "text/plain")
    with pytest.raises(StorageUnavailable, match="No space left on device: the disk is full; free some space"):
        kept.put(NAME, b"x" * BYTES, "text/plain")
    assert kept.get(REF).data == b"before"
    assert unready(small_disk) == []


def test_a_read_only_disk(small_disk: Path) -> None:
    kept = DiskStorage(small_disk / "files")
    kept.put(NAME, b"before", "text/plain")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageUnavailable, match="Read-only file system: the disk is read-only; set FOURLANE_STORAGE"):
        kept.put(NAME, b"x", "text/plain")
    assert kept.get(REF).data == b"before"


def test_a_folder_that_is_a_file(folder: Path, kept: DiskStorage) -> None:
    folder.write_text("")
    with pytest.raises(StorageUnavailable, match="a file lies where a folder should be"):
        kept.put(NAME, b"x", "text/plain")


def test_a_folder_of_others(folder: Path) -> None:
    """Which this user may not write."""
    folder.mkdir()
    code = f"""
import os
from pathlib import Path
from fourlane.errors import StorageUnavailable
from fourlane.storage.disk import DiskStorage
os.chdir({str(folder)!r})
os.chmod(".", 0o555)
if os.geteuid() == 0:
    os.setuid(65534)
try:
    DiskStorage(Path()).put({NAME!r}, b"x", "text/plain")
except StorageUnavailable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Permission denied: this user may not; give it the folder" in done.stdout, done.stderr
