"""The platform's own housekeeping, and what operators are told of it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, SecretStr, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from fourlane.config.groups.group import Group
from fourlane.config.values import Switch, json_object

__all__ = ["HOUSEKEEPING", "UpkeepSettings"]

HOUSEKEEPING: Final = (
    "dead-letters",
    "limits",
    "doctor",
    "notifications",
    "webhooks",
    "files",
    "ai-books",
    "ai-batches",
    "alerts",
)
"""What tasks/upkeep/maintenance.py does."""
_FIX: Final = f"""write {{"doctor": "off", "limits": "0 5 * * *"}}; there are {", ".join(HOUSEKEEPING)}"""


def _check_names(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        moved = validate(value)
    except ValidationError:
        raise ValueError(f"is not a JSON object of texts; {_FIX}") from None
    if unknown := set(moved) - set(HOUSEKEEPING):
        raise ValueError(f"names what there is not: {', '.join(sorted(unknown))}; {_FIX}")
    return moved


class UpkeepSettings(Group):
    maintenance: Annotated[dict[str, str], WrapValidator(_check_names), json_object(_FIX)] = Field(default_factory=dict)
    """Housekeeping by name: another cron expression (UTC), or ``off``; in the variable, a JSON object."""
    alerts: Switch = False
    """Once a minute, tell PagerDuty, Slack or email what `fourlane status` finds; for those without an Alertmanager."""
    channel_url: SecretStr | None = None
    """Where summaries and alerts are posted as {"text": …}, e.g. a Slack webhook."""
