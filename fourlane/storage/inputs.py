"""What jobs read: an https:// URL, a storage: reference, a data: URL, or a path in the folder of FOURLANE_FILES_DIR.

``check`` refuses at enqueue what can be known then; ``read`` refuses all else, in a job. Whoever names a source may be
a stranger, who is to learn nothing of our network, our folders and other tenants, and for whom no more is held than the
caller of ``read`` allows.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from fourlane.errors import InputUnavailable, InvalidArguments, InvalidName, Reject
from fourlane.providers import http
from fourlane.storage import folder as files
from fourlane.storage import media
from fourlane.storage.names import belongs_to, name_of
from fourlane.storage.store import Storage
from fourlane.storage.threads import Threads

__all__ = ["Blob", "Inputs"]

_THREADS: Final = 32
_TIMEOUT_SECONDS: Final = 30.0
_REDIRECTS: Final = 3
_LONGEST: Final = 8_192  # of a source that is no data: URL
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DATA: Final = re.compile(r"data:(?P<type>[^,;]*)(?P<parameters>(;[^,;]*)*),", re.IGNORECASE)
_PASSING: Final = (408, 425, 429)
_NAME_SIGNS: Final = re.compile(r"[^\w.@+=-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Blob:
    """What was read.

    Parameters:
      name: a file's, which has the suffix of the media type.
    """

    data: bytes
    media_type: str
    name: str


class _Read(NamedTuple):
    """What a source gave: at most one byte more than allowed; what was said of it, and how it is called."""

    data: bytes
    said: str = ""
    name: str = ""


class Inputs:
    """Reads sources, as far as they may be read.

    Parameters:
      storage: opened when the first reference is read.
      folder: whose files may be read; None: no file may.
      http: whether URLs may do without TLS.
      allow_private: whether URLs may lead to private and loopback addresses.
    """

    def __init__(
        self,
        storage: Callable[[], Storage],
        *,
        folder: Path | None = None,
        http: bool = False,
        allow_private: bool = False,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._http = http
        self._allow_private = allow_private
        self._threads = Threads(_THREADS, "fourlane-input")

    def check(self, source: str, *, tenant: str = "") -> None:
        """Refuse what can be known before a job runs. Nothing is fetched.

        Parameters:
          tenant: on whose behalf: a tenant reads its own references alone. Empty: nobody's, which may be any.

        Raises InvalidArguments.
        """
        match _scheme(source):
            case "https" | "http" as scheme:
                self._check_url(source, scheme)
            case "storage":
                _check_reference(source, tenant)
            case "data":
                _data_url(source)
            case "":
                self._check_path(source)
            case scheme:
                raise InvalidArguments(
                    f"{scheme}: is no way to name a file; use https://, storage:, data: or a path in FOURLANE_FILES_DIR"
                )

    async def read(self, source: str, *, allowed: Collection[str], most_bytes: int, tenant: str = "") -> Blob:
        """What a source has.

        Parameters:
          allowed: media types, or kinds of them such as ``image/*`` (sets of them are in media.py).
          most_bytes: of what is larger nothing is given.
          tenant: as `check` has it.

        Raises:
          Reject: it can never be read: not allowed, not there, too large, of another type.
          InputUnavailable, StorageUnavailable: it may be read another time.
        """
        return await self._threads.run(self.read_now, source, allowed=allowed, most_bytes=most_bytes, tenant=tenant)

    def read_now(self, source: str, *, allowed: Collection[str], most_bytes: int, tenant: str = "") -> Blob:
        """As `read`, in this thread."""
        try:
            self.check(source, tenant=tenant)
            found = self._fetch(source, most_bytes)
        except (InvalidArguments, http.TargetRefused) as error:
            raise Reject(str(error)) from None
        except http.TransportError as error:
            raise InputUnavailable(f"{_short(source)} could not be read: {error}") from error
        return _blob(found, source, allowed, most_bytes)

    def close(self) -> None:
        self._threads.close()

    def _check_url(self, url: str, scheme: str) -> None:
        if scheme == "http" and not self._http:
            raise InvalidArguments("a URL must begin with https://")
        try:
            http.check_url(url, allow_private=self._allow_private)
        except http.TargetRefused as error:
            raise InvalidArguments(f"{_short(url)}: {error}") from None

    def _check_path(self, path: str) -> None:
        if self._folder is None:
            raise InvalidArguments(f"{path[:200]!r}: no file may be read by its path; FOURLANE_FILES_DIR names none")
        files.check(self._folder, path)

    def _fetch(self, source: str, most_bytes: int) -> _Read:
        match _scheme(source):
            case "storage":
                stored = self._storage().get(source)
                return _Read(stored.data, stored.media_type, name_of(source).rpartition("/")[2])
            case "data":
                return _data_url(source)
            case "":
                assert self._folder is not None
                return _Read(files.read(self._folder, source, most_bytes), "", PurePosixPath(source).name)
        return self._get(source, most_bytes)

    def _get(self, url: str, most_bytes: int) -> _Read:
        answer = http.get(
            url,
            headers={"accept": "*/*"},
            timeout_seconds=_TIMEOUT_SECONDS,
            allow_private=self._allow_private,
            keep_body_bytes=most_bytes + 1,
            max_redirects=_REDIRECTS,
        )
        if answer.status != 200:
            said = f"{_short(url)} answered HTTP {answer.status}"
            raise InputUnavailable(said) if answer.status >= 500 or answer.status in _PASSING else Reject(said)
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise Reject(f"{_short(url)} is sent compressed, though nobody asked for that")
        return _Read(answer.body, answer.headers.get("content-type", ""), PurePosixPath(re.split("[?#]", url)[0]).name)


def _scheme(source: str) -> str:
    """In lower case; empty of a path. Raises InvalidArguments."""
    if not isinstance(source, str) or not source:
        raise InvalidArguments(f"a source is a text such as a URL, not {source!r}")
    found = _SCHEME.match(source)
    scheme = found[1].lower() if found else ""
    if len(source) > _LONGEST and scheme != "data":
        raise InvalidArguments(f"{_short(source)} is too long: {len(source):,} signs")
    return scheme


def _check_reference(ref: str, tenant: str) -> None:
    try:
        is_theirs = not tenant or belongs_to(ref, tenant)
        name_of(ref)
    except InvalidName as error:
        raise InvalidArguments(str(error)) from None
    if not is_theirs:
        raise InvalidArguments(f"{ref} is not of the tenant {tenant!r}")


def _data_url(url: str) -> _Read:
    """Raises InvalidArguments."""
    head = _DATA.match(url)
    if head is None:
        raise InvalidArguments("a data: URL is data:MEDIA/TYPE;base64,DATA")
    text = url[head.end() :]
    try:
        if head["parameters"].lower().endswith(";base64"):
            data = base64.b64decode(unquote(text, errors="strict"), validate=True)
        else:
            data = unquote_to_bytes(text)
    except (binascii.Error, ValueError) as error:
        raise InvalidArguments(f"the data: URL cannot be read: {error}") from None
    return _Read(data, head["type"])


def _blob(found: _Read, source: str, allowed: Collection[str], most_bytes: int) -> Blob:
    """Raises Reject."""
    if len(found.data) > most_bytes:
        raise Reject(f"{_short(source)} has more than the {most_bytes:,} bytes that are allowed")
    if not found.data:
        raise Reject(f"{_short(source)} is empty")
    said = found.said if media.bare(found.said) not in ("", media.UNKNOWN) else media.of_name(found.name)
    media_type = media.of_bytes(found.data, said)
    if not media.is_allowed(media_type, allowed):
        told = f", though said to be {media.bare(said)}" if said and media.bare(said) != media_type else ""
        raise Reject(f"{_short(source)} is {media_type}{told}; allowed: {', '.join(sorted(allowed))}")
    return Blob(found.data, media_type, _file_name(found.name, media_type))


def _file_name(name: str, media_type: str) -> str:
    """A plain name, with the suffix of the media type."""
    plain = _NAME_SIGNS.sub("_", unquote(name)).strip("._")[:100] or "file"
    if media.of_name(plain) == media_type:
        return plain
    stem = plain.rpartition(".")[0] if media.of_name(plain) else plain
    return (stem or "file") + media.suffix_of(media_type)


def _short(source: str) -> str:
    """Where it is, without what may be a secret or long: a URL's path and query."""
    scheme = source.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return f"{scheme}://{re.split('[/?#]', source[len(scheme) + 3 :])[0].rpartition('@')[2][:200]}"
    return "the data: URL" if scheme == "data" else repr(source[:200])
