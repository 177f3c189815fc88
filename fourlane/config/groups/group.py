"""What all groups of settings are."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Group"]


class Group(BaseModel):
    """The settings of a part. Parts are given the whole, by the type of what they read of it."""

    model_config = ConfigDict(
        frozen=True,
        populate_by_name=True,
        # Defaults are looked at like values: what one environment needs another may leave out.
        validate_default=True,
        # A .env file is shared with the web tier and holds names that are none of ours;
        # load_settings finds the misspelt ones among those that are.
        extra="ignore",
        hide_input_in_errors=True,
        # A group alone checks nothing: the whole does.
        defer_build=True,
    )
