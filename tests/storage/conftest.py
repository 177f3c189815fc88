"""The three backends, one of each of a test's own, and what a test of inputs reads from."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fourlane.db.engine import open_database
from fourlane.events.local import LocalSqs
from fourlane.storage.database import DatabaseStorage
from fourlane.storage.disk import DiskStorage
from fourlane.storage.s3 import S3Storage
from fourlane.storage.store import Storage
from tests.events.conftest import lead_to
from tests.events.conftest import moto_server as moto_server
from tests.providers.http.conftest import internet as internet
from tests.providers.http.conftest import serve as serve


@pytest.fixture
def bucket(moto_server: LocalSqs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty bucket of moto's server, to which the environment leads."""
    import boto3

    lead_to(moto_server, monkeypatch, tmp_path)
    name = "b" + uuid.uuid4().hex
    boto3.Session().client("s3").create_bucket(Bucket=name)  # the default one keeps the keys of an earlier server
    return name


@pytest.fixture(params=["disk", "s3", "sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """An empty storage: the test runs once on each."""
    storage = _open(request.param, request, tmp_path)
    yield storage
    storage.close()


def _open(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if kind == "disk":
        return DiskStorage(tmp_path / "files")
    if kind == "s3":
        return S3Storage(request.getfixturevalue("bucket"), "ours/files")
    url: Any = request.getfixturevalue({"sqlite": "migrated_sqlite_url", "postgresql": "migrated_postgres_url"}[kind])
    database = open_database(url)
    request.addfinalizer(database.close)
    return DatabaseStorage(database)
