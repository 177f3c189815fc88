"""What jobs read: an https:// URL, a storage: reference, a data: URL, or a path in the folder of FOURLANE_FILES_DIR.

``check`` refuses at enqueue what can be known then; ``read`` refuses all else, in a job. Whoever names a source may be
a stranger, who is to learn nothing of our network, our folders and other tenants, and for whom no more is held than the
caller of ``read`` allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Final

from fourlane.errors import InputUnavailable, InvalidArguments, Reject
from fourlane.providers import http
from fourlane.storage import folder as files
from fourlane.storage.blob import Blob, Found, blob_of
from fourlane.storage.names import name_of
from fourlane.storage.sources import check_reference, read_data_url, scheme_of, short
from fourlane.storage.store import Storage
from fourlane.threads import Threads

__all__ = ["Inputs"]

_THREADS: Final = 32
_TIMEOUT_SECONDS: Final = 30.0
_REDIRECTS: Final = 3
_PASSING: Final = (408, 425, 429)


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
        match scheme_of(source):
            case "https" | "http" as scheme:
                self._check_url(source, scheme)
            case "storage":
                check_reference(source, tenant)
            case "data":
                read_data_url(source)
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
            raise InputUnavailable(f"{short(source)} could not be read: {error}") from error
        return blob_of(found, short(source), allowed, most_bytes)

    def close(self) -> None:
        self._threads.close()

    def _check_url(self, url: str, scheme: str) -> None:
        if scheme == "http" and not self._http:
            raise InvalidArguments("a URL must begin with https://")
        try:
            http.check_url(url, allow_private=self._allow_private)
        except http.TargetRefused as error:
            raise InvalidArguments(f"{short(url)}: {error}") from None

    def _check_path(self, path: str) -> None:
        if self._folder is None:
            raise InvalidArguments(f"{path[:200]!r}: no file may be read by its path; FOURLANE_FILES_DIR names none")
        files.check(self._folder, path)

    def _fetch(self, source: str, most_bytes: int) -> Found:
        match scheme_of(source):
            case "storage":
                stored = self._storage().get(source)
                return Found(stored.data, stored.media_type, name_of(source).rpartition("/")[2])
            case "data":
                return read_data_url(source)
            case "":
                assert self._folder is not None
                return Found(files.read(self._folder, source, most_bytes), "", PurePosixPath(source).name)
        return self._get(source, most_bytes)

    def _get(self, url: str, most_bytes: int) -> Found:
        answer = http.get(
            url,
            headers={"accept": "*/*"},
            timeout_seconds=_TIMEOUT_SECONDS,
            allow_private=self._allow_private,
            keep_body_bytes=most_bytes + 1,
            max_redirects=_REDIRECTS,
        )
        if answer.status != 200:
            said = f"{short(url)} answered HTTP {answer.status}"
            raise InputUnavailable(said) if answer.status >= 500 or answer.status in _PASSING else Reject(said)
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise Reject(f"{short(url)} is sent compressed, though nobody asked for that")
        return Found(answer.body, answer.headers.get("content-type", ""), PurePosixPath(re.split("[?#]", url)[0]).name)
