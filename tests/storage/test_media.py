"""What a file is, by its bytes and by what is said of it."""

from __future__ import annotations

import pytest

from fourlane.storage import media

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"
WEBP = b"RIFF\x10\0\0\0WEBPVP8 "
WAV = b"RIFF\x10\0\0\0WAVEfmt "
MP4 = b"\0\0\0\x20ftypisom"
M4A = b"\0\0\0\x20ftypM4A "
WEBM = b"\x1aE\xdf\xa3\x9f"
HTML = b"<!doctype html><title>Not found</title>"
NOISE = b"\0\x01\x02\xfe" * 8


@pytest.mark.parametrize(
    ("data", "said", "found"),
    [
        (PNG, "", "image/png"),
        (PNG, "image/png", "image/png"),
        (JPEG, "image/png", "image/jpeg"),  # many servers go by a file's name
        (b"GIF89a..", "text/plain", "image/gif"),
        (b"GIF87a..", "", "image/gif"),
        (WEBP, "binary/octet-stream", "image/webp"),
        (WAV, "audio/x-wav", "audio/wav"),
        (b"RIFF\x10\0\0\0AVI ", "", "application/octet-stream"),
        (b"xxxx\x10\0\0\0WEBP\xff", "", "application/octet-stream"),
        (b"ID3\x04", "audio/mp3", "audio/mpeg"),
        (b"\xff\xfb\x90\x00", "", "audio/mpeg"),
        (b"fLaC\0", "audio/x-flac", "audio/flac"),
        (b"OggS\0", "audio/opus", "audio/ogg"),
        (M4A, "", "audio/mp4"),
        (M4A, "video/mp4", "audio/mp4"),
        (MP4, "", "video/mp4"),
        (MP4, "audio/x-m4a", "audio/mp4"),
        (WEBM, "", "audio/webm"),
        (WEBM, "video/webm", "video/webm"),
        (b"%PDF-1.7", "", "application/pdf"),
        # What is said counts where bytes show nothing, but not of what would show it.
        (HTML, "text/html; charset=utf-8", "text/html"),
        (HTML, "image/png", "application/octet-stream"),
        (HTML, "", "text/plain"),
        (b"a,b\n1,2", "TEXT/CSV", "text/csv"),
        (b"{}", "application/json", "application/json"),
        ("grün".encode("latin-1"), "text/plain", "application/octet-stream"),
        (b"a\0b", "text/plain", "application/octet-stream"),
        (NOISE, "", "application/octet-stream"),
        (NOISE, "application/x-foo", "application/x-foo"),
    ],
)
def test_what_a_file_is(data: bytes, said: str, found: str) -> None:
    assert media.of_bytes(data, said) == found


@pytest.mark.parametrize(
    ("media_type", "suffix"),
    [
        ("image/jpeg", ".jpg"), ("image/jpg", ".jpg"), ("audio/mpeg", ".mp3"), ("audio/webm", ".webm"),
        ("text/plain; charset=utf-8", ".txt"), ("application/x-foo", ".bin"), ("", ".bin"),
    ],
)  # fmt: skip
def test_suffixes(media_type: str, suffix: str) -> None:
    assert media.suffix_of(media_type) == suffix


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.PNG", "image/png"), ("a.b.jpeg", "image/jpeg"), ("a.webm", "audio/webm"), ("a.x", ""), ("png", ""), ("", "")],
)
def test_what_a_name_says(name: str, media_type: str) -> None:
    assert media.of_name(name) == media_type


@pytest.mark.parametrize(
    ("allowed", "is_so"),
    [({"image/png"}, True), ({"image/*"}, True), (media.IMAGES, True), ({"audio/*"}, False), ((), False)],
)
def test_what_is_allowed(allowed: set[str], is_so: bool) -> None:
    assert media.is_allowed("image/png", allowed) == is_so


def test_each_kind_has_suffixes() -> None:
    kinds = media.IMAGES | media.AUDIO | media.TEXTS | media.DOCUMENTS
    assert {one for one in kinds if media.of_name(media.suffix_of(one)) != one} == set()
