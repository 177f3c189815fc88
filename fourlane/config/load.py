"""Reads the settings from the process environment and from the environment's file, and tells all faults at once.

``FOURLANE_ENVIRONMENT`` chooses the file, ``.env.local``, ``.env.staging`` or ``.env.production``, in the
current directory. What the process environment says wins over the file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import DotEnvSettingsSource

from fourlane.config import kubernetes
from fourlane.config.addresses import without_credentials
from fourlane.config.folder import from_start
from fourlane.config.groups.deployment import EnvironmentName, canonical
from fourlane.config.secrets import secrets_of
from fourlane.config.settings import PREFIX, Settings, variables
from fourlane.errors import SettingsError
from fourlane.redact import know

__all__ = ["load_settings"]


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; overrides, by field name, win over the environment and the file.

    Raises SettingsError with a line for every fault.
    """
    process = _by_name(os.environ)
    if odd := [name for name in variables().values() if not _is_text(process.get(name) or "")]:
        raise SettingsError("\n".join(f"{name}: has bytes that are no UTF-8 text; write it anew" for name in odd))
    environment = canonical(overrides.get("environment", process.get("FOURLANE_ENVIRONMENT") or "local"))
    is_one = environment in get_args(EnvironmentName)  # what is none is a fault, and its name may fit no file
    file = from_start(Path(f".env.{environment if is_one else 'local'}"))
    filed = _read_file(file) if is_one else {}

    faults = _faults_of_names(filed | process) + _unknown(overrides, variables())
    # Obeying the file would belie its name, ignoring it would run in an environment that nobody meant.
    if canonical(filed.get("FOURLANE_ENVIRONMENT") or environment) != environment:
        faults.append(f"FOURLANE_ENVIRONMENT: {file.name} cannot set it; set it in the process environment")
    # What the process environment says the settings read themselves.
    given = {field: filed[name] for field, name in variables().items() if filed.get(name) and name not in process}
    given |= {field: value for field, value in overrides.items() if field in variables()}
    try:
        settings = Settings(**_by_alias(given | {"environment": environment}))
    except ValidationError as error:
        faults += [_fault(detail) for detail in error.errors(include_url=False)]
    # Outside the except clause, so that no context carries the values that were refused.
    if faults:
        raise SettingsError("\n".join(faults))

    know(secrets_of(settings))
    places = dict.fromkeys(filed, file.name) | dict.fromkeys(process, "environment")
    settings._sources = {
        field: "override" if field in overrides else places.get(name, "default") for field, name in variables().items()
    }
    return settings


def _read_file(file: Path) -> dict[str, str | None]:
    if not os.path.lexists(file):
        return {}
    if not file.is_file():  # to read a pipe might wait for ever
        raise SettingsError(f"{file}: is no regular file; write the settings into one of this name, or remove it")
    try:
        return _by_name(DotEnvSettingsSource(Settings, env_file=file, env_ignore_empty=False).env_vars)
    except OSError as error:
        fault = f"{file}: cannot be read ({error.strerror}); let this user read it, or remove it"
    except UnicodeDecodeError:
        fault = f"{file}: is not UTF-8 text; save it as UTF-8"
    raise SettingsError(fault)


def _is_text(value: str) -> bool:
    """Whether the bytes that the process was given are UTF-8: Python carries others as halves of letters."""
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


def _by_name(given: Mapping[str, str | None]) -> dict[str, str | None]:
    """What is given, by upper-case name. A platform variable that is empty counts as absent."""
    named = {name.upper(): value for name, value in given.items()}
    return {name: value for name, value in named.items() if value or name.startswith(PREFIX)}


def _by_alias(given: Mapping[str, Any]) -> dict[str, Any]:
    """Until pydantic-settings 2.11 the environment wins over the bare name of a field that has an alias."""
    aliases = {field: Settings.model_fields[field].validation_alias for field in given}
    return {alias if isinstance(alias, str) else field: given[field] for field, alias in aliases.items()}


def _faults_of_names(found: Mapping[str, str | None]) -> list[str]:
    """Faults that the variables show before their values are read."""
    known = {*variables().values()}
    own = {
        name: value
        for name, value in found.items()
        if name.startswith(PREFIX) and (name in known or not kubernetes.is_service_link(name, value or ""))
    }
    empty = [name for name, value in own.items() if not value and name in known]
    return _unknown(own, known) + [f"{name}: is empty; give it a value or remove it" for name in empty]


def _unknown(names: Iterable[str], known: Collection[str]) -> list[str]:
    # Compared without the prefix, which would make all names alike and hide FOURLANE_REDIS_URL's meaning.
    bare = {name.lower().removeprefix(PREFIX.lower()): name for name in known}
    faults = []
    for name in names:
        if name not in known:
            [closest] = get_close_matches(name.lower().removeprefix(PREFIX.lower()), bare, n=1, cutoff=0)
            faults.append(f"{name}: there is no such setting; did you mean {bare[closest]}?")
    return faults


def _fault(detail: ErrorDetails) -> str:
    """The variable, where in its value, and what is wrong."""
    field, *inner = (str(part) for part in detail["loc"] if part != "[key]")
    text = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"]
    return f"{variables().get(field, field)}: {without_credentials(': '.join([*inner, text]))}"
