"""How a program hears of events: ``hooks.add`` an object of a class made of `Hooks`. All that it may hear is in
`fourlane.telling.Observer`, which it is.
"""

from __future__ import annotations

from fourlane.telling import Observer as Hooks
from fourlane.telling import tell

__all__ = ["Hooks", "add", "remove"]

add = tell.add
remove = tell.remove
