"""Typed settings, loaded on first use: importing this package imports no pydantic and reads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourlane.config.load import load_settings
    from fourlane.config.settings import Settings

__all__ = ["Settings", "load_settings"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fourlane.config.load import load_settings
    from fourlane.config.settings import Settings

    return {"Settings": Settings, "load_settings": load_settings}[name]
