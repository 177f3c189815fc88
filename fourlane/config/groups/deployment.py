"""Which of the platform's deployments this is: what all parts look at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator

from fourlane.config.groups.group import Group
from fourlane.config.values import Folder, or_say
from fourlane.names import check_service

__all__ = ["DeploymentSettings", "EnvironmentName", "canonical"]

_NAMESPACE: Final = re.compile(r"[a-zA-Z0-9_-]{1,63}")

EnvironmentName = Literal["local", "staging", "production"]


def canonical(environment: Any) -> Any:
    """The platform's document says "preview" where its names say "staging"."""
    return "staging" if environment == "preview" else environment


def _check_namespace(namespace: str) -> str:
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(f"{namespace!r} is no namespace; use letters, digits, - and _, at most 63")
    return namespace


class DeploymentSettings(Group):
    # First, because the checks of others look at it.
    environment: Annotated[
        EnvironmentName,
        or_say("no environment; use local, staging or production"),
        BeforeValidator(canonical),
    ] = "local"
    """Which of the platform's environments this is; the first word of every queue's name."""
    namespace: Annotated[str, AfterValidator(_check_namespace)] = "fourlane"
    """The first word of every key in Redis."""
    service: Annotated[str, AfterValidator(check_service)] = "default"
    """The service of tasks that name none."""
    data_dir: Folder = Path(".fourlane")
    """Where the embedded server and SQLite keep their data."""
