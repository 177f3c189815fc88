"""Opens the database: PostgreSQL, directly or through a transaction pooler, or SQLite in one file.

Through a transaction pooler a session does not last: nothing here depends on one. No SET but SET LOCAL, no advisory
lock but within a transaction, no LISTEN, no temporary table; psycopg2 prepares no statements at the server.
"""

from __future__ import annotations

import importlib
import logging
import random
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, Pool, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from fourlane import private
from fourlane.db.timing import watch
from fourlane.errors import DatabaseUnavailable, FourlaneError, SettingsError

__all__ = ["Database", "open_database", "sqlite_url", "unavailable"]

log = logging.getLogger("fourlane.db")

_TRANSACTION_POOLER_PORT: Final = 6543
# Prisma's, and Supabase's mark of Vercel's integration, in a URL that the web tier and the worker share.
_OPTIONS_OF_OTHERS: Final = frozenset(
    (
        "pgbouncer",
        "connection_limit",
        "pool_timeout",
        "socket_timeout",
        "schema",
        "statement_cache_size",
        "sslaccept",
        "supa",
    )
)
_RECYCLE_SECONDS: Final = 240  # well under the idle limits of poolers and load balancers
_IDLE_TRANSACTION_MS: Final = 60_000  # whose program vanished must not keep its locks for hours
_LOCK_STEP_SECONDS: Final = (0.0005, 0.002)
_KEEPALIVES: Final = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "fourlane",
}


class Database:
    """An open database. Threads may share it; processes open their own."""

    def __init__(self, engine: Engine, *, pooled: bool) -> None:
        watch(engine)
        self.engine = engine
        self.dialect = engine.dialect.name
        self.listens = self.dialect == "postgresql" and not pooled and not _is_single(engine.pool)
        """Whether LISTEN works on its connections, and one can be spared for it."""

    def __str__(self) -> str:
        """Where it is, without the password."""
        url = self.engine.url
        return f"SQLite in {url.database}" if self.dialect == "sqlite" else f"PostgreSQL {url.database} at {url.host}"

    def session(self) -> Session:
        """A session; its user commits. Objects stay readable after the commit."""
        return Session(self.engine, expire_on_commit=False)

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A session in one transaction, committed at the end, rolled back by an error.

        Raises:
          DatabaseUnavailable: the database cannot be reached, or was lost on the way. Whether a commit that was
            under way took effect is then unknown.
        """
        try:
            with self.session() as session, session.begin():
                yield session
        except (StatementError, PoolTimeout) as error:
            if is_lost(error):
                raise unavailable(error) from error
            if isinstance(error, StatementError) and isinstance(
                error.orig, FourlaneError
            ):  # of a column's own, see columns.py
                raise error.orig from None
            raise

    def close(self) -> None:
        self.engine.dispose()


def open_database(
    url: str,
    *,
    pool_size: int = 5,
    pool_timeout_seconds: int = 10,
    statement_timeout_ms: int = 30_000,
    transaction_pooler: bool | None = None,
    folder: Path | None = None,
) -> Database:
    """Open the database of a URL. No connection is made yet.

    Parameters:
      url: ``postgresql://user:password@host:port/name`` or ``sqlite:///file``.
      pool_size: connections that may be open at once in this process.
      pool_timeout_seconds: how long to wait for a free one.
      statement_timeout_ms: PostgreSQL ends a statement after this; SQLite waits so long for a writer.
      transaction_pooler: whether connections change between transactions; by default, what ``?pgbouncer=`` says,
        else whether the port is 6543, which Supabase gives to its transaction pooler.
      folder: what a file of SQLite with a relative name is in; by default the present one.

    Raises SettingsError for a URL that is none.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return Database(_sqlite(_fixed(parsed, folder or Path()), statement_timeout_ms), pooled=False)
    parsed, told = _without_options_of_others(parsed)
    if transaction_pooler is None:
        transaction_pooler = told if told is not None else parsed.port == _TRANSACTION_POOLER_PORT
    pooled = transaction_pooler
    return Database(_postgresql(parsed, pool_size, pool_timeout_seconds, statement_timeout_ms, pooled), pooled=pooled)


def _is_single(pool: Pool) -> bool:
    return isinstance(pool, QueuePool) and pool.size() == 1


def _fixed(url: URL, folder: Path) -> URL:
    """The same file for as long as it is open, wherever code in this process changes to."""
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:"):
        return url
    return url.set(database=str(Path(folder, name).absolute()))


def sqlite_url(file: Path) -> str:
    """The URL of a database in a file, whose folder is made when it is missing. Raises SettingsError."""
    try:
        private.folder(file.parent)
        private.tighten(file, *file.parent.glob(f"{file.name}-*"))  # and the journals beside it
    except OSError as error:
        raise SettingsError(f"FOURLANE_DATA_DIR: {file.parent} cannot be made ({error.strerror})") from None
    return URL.create("sqlite", database=str(file)).render_as_string()


def is_lost(error: Exception) -> bool:
    """True when the database was not there, or took too long; false when it refused what was asked."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or isinstance(error.orig, sqlite3.OperationalError):
        return True
    # Without a code of the server's the driver itself failed: no connection, or a broken one.
    # 08: connection. 53: out of resources. 57: shut down or cancelled. 25P03: idle too long. 55P03: lock timeout.
    code = getattr(error.orig, "pgcode", None)
    operational = type(error.orig).__name__ in ("OperationalError", "InterfaceError")
    return (operational and code is None) or str(code)[:2] in ("08", "53", "57") or code in ("25P03", "55P03")


def unavailable(error: Exception) -> DatabaseUnavailable:
    """Our error for one of SQLAlchemy's, in one line, with what to do."""
    original = getattr(error, "orig", None) or error
    line = next(iter(str(original).strip().splitlines()), "") or type(original).__name__
    if "password authentication failed" in line or "no password supplied" in line:
        hint = "check user and password in DATABASE_URL"
    elif isinstance(error, PoolTimeout):
        hint = "all connections are in use; raise FOURLANE_DATABASE_POOL_SIZE, or keep transactions short"
    elif "startup parameter" in line:
        hint = "a pooler is in between: set FOURLANE_DATABASE_TRANSACTION_POOLER=true"
    elif "no such table" in line or "does not exist" in line:
        hint = "run `fourlane db migrate`"
    elif "permission denied" in line or "row-level security" in line:
        hint = "this user may not do that; docs/database.md lists the roles"
    elif isinstance(original, sqlite3.Error):
        hint = "look at the file that DATABASE_URL or FOURLANE_DATA_DIR names, and at its disk"
    else:
        hint = "is the server running, and DATABASE_URL right?"
    return DatabaseUnavailable(f"database: {line} ({hint})")


def _parse(url: str) -> URL:
    # The value is a secret even when it is malformed: no message repeats it.
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingsError(
            "DATABASE_URL: cannot be read; write postgresql://USER:PASSWORD@HOST:5432/NAME, "
            "with signs such as / and @ in the password as %2F and %40"
        ) from None
    match parsed.drivername.partition("+")[0]:
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg2")
        case "sqlite":
            return parsed.set(drivername="sqlite+pysqlite")
    raise SettingsError(
        "DATABASE_URL: names no database that Fourlane knows; begin it with postgresql:// or sqlite:///"
    )


def _without_options_of_others(url: URL) -> tuple[URL, bool | None]:
    """The URL without what other clients read there; and whether that says that a transaction pooler is in between.

    Raises SettingsError: nobody knows an option.
    """
    others = [name for name in url.query if name in _OPTIONS_OF_OTHERS]
    told = str(url.query["pgbouncer"]).lower() == "true" if "pgbouncer" in url.query else None
    left_out = [name for name in others if name != "pgbouncer"]
    if left_out:
        log.warning("DATABASE_URL: left out what is for other clients: %s", ", ".join(left_out))
    url = url.difference_update_query(others)
    if unknown := _unknown_to_libpq(url.query):
        raise SettingsError(f"DATABASE_URL: its option {unknown} is not known; leave it out")
    return url, told


def _unknown_to_libpq(options: Iterable[str]) -> str:
    try:
        driver: Any = importlib.import_module("psycopg2")
    except ModuleNotFoundError:
        raise SettingsError("PostgreSQL needs the package psycopg2; pip install 'fourlane[db]'") from None
    for name in options:
        try:
            driver.extensions.make_dsn(**{name: ""})
        except driver.ProgrammingError:
            return name
    return ""


def _postgresql(url: URL, size: int, wait_seconds: int, statement_ms: int, pooled: bool) -> Engine:
    arguments: dict[str, Any] = dict(_KEEPALIVES)
    if not pooled:
        # A transaction pooler refuses options at the start, and would give the session to others.
        arguments["options"] = (
            f"-c statement_timeout={statement_ms} -c idle_in_transaction_session_timeout={_IDLE_TRANSACTION_MS}"
        )
    engine = create_engine(
        url,
        connect_args=arguments,
        # Kept before a pooler too: a worker lives long, and each log-in would cost more than its transaction.
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=wait_seconds,
        pool_recycle=_RECYCLE_SECONDS,
        pool_pre_ping=True,
    )
    if pooled:

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql(  # one round trip
                f"SET LOCAL statement_timeout = {statement_ms};"
                f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_TRANSACTION_MS}"
            )

    return engine


def _sqlite(url: URL, wait_ms: int) -> Engine:
    engine = create_engine(url, connect_args={"timeout": wait_ms / 1000, "check_same_thread": False})

    @event.listens_for(engine, "do_connect")
    def make(_dialect: Any, _record: Any, arguments: list[Any], _more: Any) -> None:
        name = str(arguments[0])
        if name and name != ":memory:" and not name.startswith("file:"):
            with suppress(OSError):  # the driver says what is wrong
                private.file(Path(name))

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself; begin() below does
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA busy_timeout = 0")
        try:
            # At once as a writer: one that turns into a writer later can fail without any waiting.
            if not _begin_soon(driver, wait_ms / 1000):
                connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            driver.execute(f"PRAGMA busy_timeout = {wait_ms}")

    return engine


def _begin_soon(driver: Any, wait_seconds: float) -> bool:
    """Wait for SQLite's one lock in short steps; false when it is not to be had.

    Its own wait grows to 100 ms a step, while others pass by: whoever has waited long waits even longer.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
            return True
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                return False
        time.sleep(random.uniform(*_LOCK_STEP_SECONDS))
