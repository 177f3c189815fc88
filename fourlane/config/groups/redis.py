"""Where the queues are."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from fourlane.config.groups.deployment import DeploymentSettings
from fourlane.config.shown import ADDRESS

__all__ = ["RedisSettings"]

_SCHEMES: Final = ("redis://", "rediss://", "unix://")


class RedisSettings(DeploymentSettings):
    redis_url: Annotated[SecretStr | None, ADDRESS] = Field(None, validation_alias="REDIS_URL")
    """Where the queues are; production needs it, elsewhere None means the embedded server."""

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url is None:
            if info.data.get("environment") == "production":
                raise ValueError("is not set, and production needs it; set it to rediss://…")
        elif not url.get_secret_value().startswith(_SCHEMES):
            # The value is a secret even when it is malformed.
            raise ValueError("has no scheme that Redis knows; begin it with redis://, rediss:// or unix://")
        return url
