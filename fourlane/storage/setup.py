"""Where files are kept and read from, as the settings say."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from fourlane.root import Root
from fourlane.storage.store import Storage

if TYPE_CHECKING:
    from fourlane.config.groups.storage import Place
    from fourlane.config.settings import Settings
    from fourlane.storage.inputs import Inputs

__all__ = ["inputs", "kept_storage", "storage"]


def storage(of: Root) -> Storage:
    """A part: where this process keeps files. Raises SettingsError, StorageUnavailable."""
    opened = _open(of, of.settings.storage)
    of.on_close(opened.close)
    return opened


def inputs(of: Root) -> Inputs:
    """A part: what jobs may read. Raises SettingsError."""
    from fourlane.storage.inputs import Inputs

    settings = of.settings
    made = Inputs(
        lambda: of.part(storage),
        folder=settings.files_dir,
        http=settings.environment == "local",
        allow_private=settings.files_allow_private,
    )
    of.on_close(made.close)
    return made


def kept_storage(of: Root) -> Storage | None:
    """Where files are kept; None where none can be: nobody chose the database, and its packages are not there."""
    settings = of.settings
    if _is_database(settings) and settings.storage is None and importlib.util.find_spec("sqlalchemy") is None:
        return None
    return of.part(storage)


def _open(of: Root, place: Place | None) -> Storage:
    settings = of.settings
    if _is_database(settings):
        return _in_database(of)
    if place is None or place.kind == "disk":
        from fourlane.storage.disk import DiskStorage

        return DiskStorage(settings.data_dir / "files" if place is None else place.folder)
    from fourlane.storage.s3 import S3Storage

    keys = settings.storage_keys
    access, _, secret = keys.get_secret_value().partition(":") if keys else ("", "", "")
    return S3Storage(
        place.bucket,
        place.prefix,
        endpoint=place.endpoint,
        region=place.region,
        keys=(access.strip(), secret.strip()) if keys else None,
    )


def _is_database(settings: Settings) -> bool:
    if settings.storage is None:
        return settings.database_url is not None
    return settings.storage.kind == "database"


def _in_database(of: Root) -> Storage:
    from fourlane.db.setup import database

    opened = of.part(database)
    from fourlane.storage.database import DatabaseStorage

    return DatabaseStorage(opened)
