from __future__ import annotations

import base64
import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fourlane import crypto
from fourlane.crypto import Keyring, new_key
from fourlane.errors import EncryptionError

OLD, NEW = new_key(), new_key()


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(100_000)], ids=len)
def test_round_trip(data: bytes) -> None:
    ring = Keyring([NEW])
    sealed = ring.encrypt(data, "job:1")
    assert ring.decrypt(sealed, "job:1") == data
    assert sealed != ring.encrypt(data, "job:1")  # another nonce each time
    assert len(sealed) == len(data) + 33


def test_alike_is_the_same_each_time_and_for_the_same_only() -> None:
    ring = Keyring([NEW, OLD])
    sealed = ring.encrypt_alike(b"data", "here")
    assert sealed == Keyring([NEW]).encrypt_alike(b"data", "here")
    assert ring.decrypt(sealed, "here") == b"data"
    others = [ring.encrypt_alike(b"date", "here"), ring.encrypt_alike(b"data", "there"), ring.encrypt(b"data", "here"),
              Keyring([OLD]).encrypt_alike(b"data", "here")]  # fmt: skip
    assert len({sealed[5:17], *(other[5:17] for other in others)}) == 5, "never a nonce twice"


def test_the_format_is_what_it_says() -> None:
    """Another implementation reads it: version, key's name, nonce, then plain AES-GCM over header and context."""

    key = base64.b64decode(NEW)
    sealed = Keyring([NEW]).encrypt(b"data", "t.c")
    assert sealed[:5] == b"\x01" + hashlib.sha256(key).digest()[:4]
    assert AESGCM(key).decrypt(sealed[5:17], sealed[17:], sealed[:17] + b"t.c") == b"data"


def test_two_keys_of_one_name_are_told_and_the_same_key_twice_is_one() -> None:
    """A ciphertext could not tell which of them opens it, nor could a rotation."""
    one, other = (base64.b64encode(number.to_bytes(32, "big")).decode() for number in (50_323, 54_260))
    with pytest.raises(EncryptionError, match="keys 2 and 3 have one name, 93613343; make another new key") as told:
        Keyring([NEW, one, other])
    assert other not in str(told.value)
    ring = Keyring([one, NEW, one])
    assert ring.decrypt(ring.encrypt(b"data", "c"), "c") == b"data"


def test_rotation() -> None:
    sealed = Keyring([OLD]).encrypt(b"data", "c")
    both = Keyring([NEW, OLD])
    assert both.decrypt(sealed, "c") == b"data"
    assert not sealed.startswith(both.current_prefix)
    again = both.encrypt(b"data", "c")
    assert again.startswith(both.current_prefix)
    assert Keyring([NEW]).decrypt(again, "c") == b"data"
    with pytest.raises(EncryptionError, match="not in FOURLANE_ENCRYPTION_KEYS; put that key back"):
        Keyring([NEW]).decrypt(sealed, "c")


@pytest.mark.parametrize("position", range(33 + 4))
def test_every_changed_byte_is_noticed(position: int) -> None:
    sealed = bytearray(Keyring([NEW]).encrypt(b"data", "c"))
    sealed[position] ^= 1
    with pytest.raises(EncryptionError):
        Keyring([NEW]).decrypt(bytes(sealed), "c")


@pytest.mark.parametrize(
    ("sealed", "context", "fault"),
    [
        (Keyring([NEW]).encrypt(b"data", "c"), "other", "belongs elsewhere"),
        (b"", "c", "not encrypted by Fourlane"),
        (b"plain text that is long enough to be a ciphertext", "c", "not encrypted by Fourlane"),
        (Keyring([NEW]).encrypt(b"data", "c")[:32], "c", "not encrypted by Fourlane"),
    ],
    ids=["moved", "empty", "plain", "cut"],
)
def test_what_cannot_be_decrypted(sealed: bytes, context: str, fault: str) -> None:
    with pytest.raises(EncryptionError, match=fault):
        Keyring([NEW]).decrypt(sealed, context)


@pytest.mark.parametrize(
    "keys",
    [[], [""], ["c2hvcnQ="], ["no base64!"], [NEW, "c2hvcnQ="]],
    ids=["none", "empty", "short", "words", "second"],
)
def test_what_is_no_key(keys: list[str]) -> None:
    with pytest.raises(EncryptionError, match="FOURLANE_ENCRYPTION_KEYS") as caught:
        Keyring(keys)
    assert "c2hvcnQ" not in str(caught.value)


def test_a_key_in_a_file(tmp_path: Path) -> None:
    """Made once, however many ask at once, and for this user only."""
    file, found, start = tmp_path / "data" / "key", [], threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(crypto.key_of_file(file))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {file.read_text().strip()}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["key"]
