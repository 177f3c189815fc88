"""A bucket of moto's server, and servers that refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fourlane.errors import NotStored, StorageUnavailable
from fourlane.events.local import LocalSqs
from fourlane.storage.names import reference
from fourlane.storage.s3 import S3Storage
from tests.providers.http.servers import ServerFactory
from tests.servers import free_port

NAME = "ai/%C3%BC/j/x.txt"
REF = reference(NAME)
KEYS = ("key", "hush")


@pytest.fixture
def s3(bucket: str) -> Any:
    import boto3

    return boto3.Session().client("s3")


def at(endpoint: str) -> S3Storage:
    return S3Storage("b" * 10, "p", endpoint=endpoint, region="auto", keys=KEYS)


def test_a_url_that_anybody_may_read(bucket: str) -> None:
    kept = S3Storage(bucket, "p")
    url = kept.url(kept.put(NAME, b"hello", "text/plain"), 60)
    assert url is not None
    assert "X-Amz-Expires=60" in url
    answer = httpx.get(url)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"hello", "text/plain")


def test_files_lie_below_the_prefix_and_others_are_left(bucket: str, s3: Any) -> None:
    kept = S3Storage(bucket, "/p/q/")
    kept.put(NAME, b"hello", "text/plain")
    for key in ("mine", "p/mine", "p/qq/mine"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert kept.prune(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert sorted(one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]) == [
        "mine",
        "p/mine",
        "p/qq/mine",
    ]


def test_another_server_by_its_endpoint(moto_server: LocalSqs, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the variables of AWS say."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    kept = S3Storage(bucket, "p", endpoint=moto_server.endpoint, region="auto", keys=moto_server.keys)
    assert kept.get(kept.put(NAME, b"hello", "text/plain")).data == b"hello"
    url = kept.url(REF, 60)
    assert url is not None
    assert url.startswith(f"{moto_server.endpoint}/{bucket}/p/ai/%25C3%25BC/j/x.txt?")
    assert httpx.get(url).content == b"hello"


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    kept = S3Storage(bucket + "x", "p")
    said = f"^s3://{bucket}x/p/: there is no such bucket; make it, or check FOURLANE_STORAGE$"
    with pytest.raises(StorageUnavailable, match=said):
        kept.put(NAME, b"x", "text/plain")
    with pytest.raises(StorageUnavailable, match=said):
        kept.get(REF)
    with pytest.raises(StorageUnavailable, match=said):
        kept.prune(datetime.now(UTC))


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (403, "AccessDenied", r"permission s3:PutObject is missing"),
        (
            403,
            "InvalidAccessKeyId",
            r"AWS does not take these credentials \(InvalidAccessKeyId\); set AWS_ACCESS_KEY_ID",
        ),
        (403, "SignatureDoesNotMatch", r"AWS does not take these credentials"),
        (500, "InternalError", r".*\(InternalError\) when calling"),
    ],
)
def test_a_server_that_refuses(serve: ServerFactory, status: int, code: str, why: str) -> None:
    text = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    server = serve(lambda _: f"HTTP/1.1 {status} X\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
    with pytest.raises(StorageUnavailable, match=f"^s3://bbbbbbbbbb/p/: {why}") as caught:
        at(f"http://127.0.0.1:{server.port}").put(NAME, b"x", "text/plain")
    assert "hush" not in str(caught.value)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StorageUnavailable, match="Could not connect to the endpoint URL"):
        at(f"http://127.0.0.1:{free_port()}").put(NAME, b"x", "text/plain")


def test_an_answer_that_is_cut(serve: ServerFactory) -> None:
    server = serve(talk=lambda conn: conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nxxx"))
    with pytest.raises(StorageUnavailable):
        at(f"http://127.0.0.1:{server.port}").get(REF)


def test_a_profile_that_is_not_there(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(StorageUnavailable, match="set AWS_PROFILE to one that exists"):
        S3Storage(bucket, "p")


def test_what_was_never_put(bucket: str) -> None:
    with pytest.raises(NotStored):
        S3Storage(bucket, "p").get(REF)
