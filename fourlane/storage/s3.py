"""Files in a bucket: of AWS, or of any server that speaks the language of S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from fourlane.errors import FourlaneError, StorageUnavailable
from fourlane.providers.aws import DENIED, AwsAccount, code_of
from fourlane.storage.store import Storage, Stored

__all__ = ["S3Storage"]

_TRIES: Final = 3
_GONE: Final = ("NoSuchKey", "404")
_PERMISSIONS: Final = {
    "read": "s3:GetObject and s3:ListBucket",  # without the second, what is not there looks like what is forbidden
    "written": "s3:PutObject",
    "deleted": "s3:DeleteObject",
    "pruned": "s3:ListBucket and s3:DeleteObject",
}


class S3Storage(Storage):
    """Keeps files below a prefix of a bucket.

    Parameters:
      prefix: of ours alone, for all that is old below it is pruned.
      endpoint, region: of a server that is not the AWS of AWS's own variables.
      keys: access key and secret, likewise.

    Raises:
      FourlaneError: boto3 is not installed.
      StorageUnavailable: the profile is not known, or the endpoint is none.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint: str = "",
        region: str = "",
        keys: tuple[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._bucket, self._prefix = bucket, prefix.strip("/") + "/"
        self._account = AwsAccount("files in S3", "s3", region=region, endpoint=endpoint, keys=keys)
        options: dict[str, Any] = {"signature_version": "s3v4"}
        if endpoint:
            # Others have no names for buckets, and know no checksums but their own.
            options |= {
                "s3": {"addressing_style": "path"},
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            }
        try:
            self._s3 = self._account.client(
                "s3",
                connect_timeout=5,
                read_timeout=30,
                max_pool_connections=64,
                retries={"mode": "standard", "total_max_attempts": _TRIES},
                **options,
            )
        except self._account.opening_errors as error:
            raise self._unavailable(error, "opened") from None

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def _write(self, name: str, data: bytes, media_type: str) -> None:
        with self._explained("written"):
            self._s3.put_object(**self._at(name), Body=data, ContentType=media_type)

    def _read(self, name: str) -> Stored | None:
        with self._explained("read"):
            try:
                found = self._s3.get_object(**self._at(name))
            except self._account.errors as error:
                if code_of(error) in _GONE:
                    return None
                raise
            return Stored(found["Body"].read(), found["ContentType"])

    def _remove(self, name: str) -> None:
        with self._explained("deleted"):
            self._s3.delete_object(**self._at(name))

    def _url(self, name: str, seconds: int) -> str:
        with self._explained("read"):
            url: str = self._s3.generate_presigned_url("get_object", Params=self._at(name), ExpiresIn=seconds)
        return url

    def prune(self, older_than: datetime) -> int:
        gone = 0
        with self._explained("pruned"):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
                old = [{"Key": one["Key"]} for one in page.get("Contents", ()) if one["LastModified"] < older_than]
                if old:
                    done = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": old, "Quiet": True})
                    if failed := done.get("Errors"):
                        raise StorageUnavailable(
                            f"{self}: {len(failed)} files were not deleted: {failed[0]['Message']}"
                        )
                gone += len(old)
        return gone

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        try:
            yield
        except self._account.errors as error:
            raise self._unavailable(error, done) from error

    def _unavailable(self, error: Exception, done: str) -> FourlaneError:
        code = code_of(error)
        if code == "NoSuchBucket":
            return StorageUnavailable(f"{self}: there is no such bucket; make it, or check FOURLANE_STORAGE")
        if code in DENIED:
            return StorageUnavailable(f"{self}: permission {_PERMISSIONS[done]} is missing ({code})")
        return StorageUnavailable(self._account.failure(error, str(self)).text)
