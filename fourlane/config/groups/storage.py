"""Where files are kept, and from where jobs may read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from fourlane.config.folder import from_start
from fourlane.config.groups.deployment import DeploymentSettings
from fourlane.config.shown import Shown
from fourlane.config.values import Folder, Switch, at_least

__all__ = ["Place", "StorageSettings"]

_FORMS: Final = "use disk:/FOLDER, s3://BUCKET/PREFIX or database"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_LONGEST_PREFIX: Final = 300


@dataclass(frozen=True)
class Place:
    """Where files lie, as FOURLANE_STORAGE says it."""

    kind: Literal["disk", "s3", "database"]
    written: str
    folder: Path = Path()
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""
    region: str = ""

    def __str__(self) -> str:
        return self.written


def _read_place(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    scheme, _, rest = value.partition(":")
    if value == "database":
        return Place("database", value)
    if scheme == "disk":
        return _read_folder(value, rest)
    if scheme == "s3":
        return _read_bucket(value)
    raise ValueError(f"{scheme!r} is no place for files; {_FORMS}")


def _read_folder(value: str, rest: str) -> Place:
    if not rest or "\0" in rest:
        raise ValueError("names no folder; write disk:/FOLDER")
    return Place("disk", value, folder=from_start(Path(rest)))


def _read_bucket(value: str) -> Place:
    parts = urlsplit(value)
    if "@" in value.partition("?")[0]:
        raise ValueError("has a key in it; write s3://BUCKET/PREFIX, and the key into FOURLANE_STORAGE_KEYS")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"{parts.netloc!r} is no bucket; write s3://BUCKET/PREFIX")
    prefix = parts.path.strip("/")
    if not prefix:
        # What is old is deleted there.
        raise ValueError(f"has no prefix; write s3://{parts.netloc}/PREFIX, with one that nobody else uses")
    if not _PREFIX.fullmatch(prefix) or len(prefix) > _LONGEST_PREFIX:
        raise ValueError(f"{prefix[:_LONGEST_PREFIX]!r} is no prefix; use letters, digits, - _ . and /")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := options.keys() - {"endpoint", "region"}:
        raise ValueError(f"its option {min(unknown)} is not known; use endpoint and region")
    endpoint = options.get("endpoint", "")
    if endpoint and not re.fullmatch(r"https?://[^\s/@]+(/[^\s@]*)?", endpoint):
        raise ValueError("its endpoint is none; write s3://BUCKET/PREFIX?endpoint=https://HOST")
    region = options.get("region", "auto" if endpoint else "")
    return Place("s3", value, bucket=parts.netloc, prefix=prefix, endpoint=endpoint, region=region)


def _check_keys(keys: SecretStr | None) -> SecretStr | None:
    if keys is not None:
        access, colon, secret = keys.get_secret_value().partition(":")
        if not (access.strip() and colon and secret.strip()):
            raise ValueError("is not KEY:SECRET; write an access key, a colon and its secret")
    return keys


class StorageSettings(DeploymentSettings):
    storage: Annotated[Place | None, BeforeValidator(_read_place), Shown(str)] = None
    """Where files are kept: disk:/FOLDER, s3://BUCKET/PREFIX or database; None: the database where DATABASE_URL is set,
    else a folder in data_dir."""
    storage_keys: Annotated[SecretStr | None, AfterValidator(_check_keys)] = None
    """KEY:SECRET for S3, where it is another account than that of AWS's own variables."""
    storage_days: Annotated[int, at_least(0, bound=36_500)] = 30
    """How long files are kept; 0: for ever."""
    files_dir: Folder | None = None
    """The folder of which jobs may read files by their path; None: of none."""
    files_allow_private: Switch = False
    """Read URLs on private and loopback addresses too."""
