"""The database that the settings name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fourlane import crypto
from fourlane.config.folder import from_start
from fourlane.errors import SettingsError
from fourlane.root import Root

if TYPE_CHECKING:
    from fourlane.config.groups.database import DatabaseSettings
    from fourlane.db.engine import Database

__all__ = ["database", "has_database", "kept_database", "open_database"]


def database(of: Root) -> Database:
    """A part: the one database pool of this process. Raises as `open_database` does."""
    opened = open_database(of.settings)
    of.on_close(opened.close)
    return opened


def has_database(settings: DatabaseSettings) -> bool:
    """Whether there is one to look at: DATABASE_URL names it, or a program here has made the SQLite file."""
    if settings.database_url is None:
        return settings.environment != "production" and _file(settings).exists()
    return True


def kept_database(of: Root, table: str) -> Database | None:
    """The database, where there is one with this table: housekeeping makes none. Raises as `open_database` does."""
    if find_spec("sqlalchemy") is None or not has_database(of.settings):
        return None
    from sqlalchemy import inspect

    found = of.part(database)
    return found if inspect(found.engine).has_table(table) else None


def open_database(settings: DatabaseSettings) -> Database:
    """DATABASE_URL, else a SQLite file in the data folder; with the keys of encrypted columns.

    Raises:
      SettingsError: there is no DATABASE_URL in production, or a package is missing.
      EncryptionError: a key is none.
    """
    if settings.database_url is None and settings.environment == "production":
        raise SettingsError("DATABASE_URL: is not set, and production needs it; set it to postgresql://…")
    try:
        from fourlane.db import engine
    except ModuleNotFoundError as error:
        raise SettingsError(f"the database needs the package {error.name}; pip install 'fourlane[db]'") from None
    crypto.configure_from(settings)
    if settings.database_url is None:
        url = engine.sqlite_url(_file(settings))
    else:
        url = settings.database_url.get_secret_value()
    return engine.open_database(
        url,
        pool_size=settings.database_pool_size,
        pool_timeout_seconds=settings.database_pool_timeout_seconds,
        statement_timeout_ms=settings.database_statement_timeout_ms,
        transaction_pooler=settings.database_transaction_pooler,
        folder=from_start(Path()),
    )


def _file(settings: DatabaseSettings) -> Path:
    return settings.data_dir / "fourlane.db"
