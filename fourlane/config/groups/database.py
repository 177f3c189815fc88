"""The database, and the keys of what is encrypted in it and in jobs."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from fourlane.config.groups.deployment import DeploymentSettings
from fourlane.config.shown import ADDRESS
from fourlane.config.values import Switch, at_least
from fourlane.keytext import read_keys, split_keys

__all__ = ["DatabaseSettings", "EncryptionSettings"]


def _check_keys(keys: SecretStr | None) -> SecretStr | None:
    if keys is not None:
        read_keys(split_keys(keys.get_secret_value()))
    return keys


class EncryptionSettings(DeploymentSettings):
    encryption_keys: Annotated[SecretStr | None, AfterValidator(_check_keys)] = None
    """Keys for personal data, newest first, each 32 bytes in base64, commas between them."""


class DatabaseSettings(EncryptionSettings):
    database_url: Annotated[SecretStr | None, ADDRESS] = Field(None, validation_alias="DATABASE_URL")
    """PostgreSQL; production needs it where the database is used, elsewhere None means a SQLite file in data_dir.

    The relative name of a SQLite file, as that of data_dir, starts from the folder in which a program was started.
    """
    database_pool_size: Annotated[int, at_least(1, bound=10_000)] = 5
    """Connections to the database that one process may hold."""
    database_pool_timeout_seconds: Annotated[int, at_least(1, bound=86_400)] = 10
    """How long to wait for one of them."""
    database_statement_timeout_ms: Annotated[int, at_least(1, bound=2_147_483_647)] = 30_000
    """The database ends a statement after this."""
    database_transaction_pooler: Switch | None = None
    """Whether connections change between transactions; None: when the port is 6543, as Supabase's pooler has it."""
    next_public_supabase_url: str | None = Field(None, validation_alias="NEXT_PUBLIC_SUPABASE_URL")
    supabase_service_role_key: SecretStr | None = Field(None, validation_alias="SUPABASE_SERVICE_ROLE_KEY")
