"""Seeing it run: logs, metrics, traces, errors. Each part needs its own extra, and only where it is on.

`fourlane.observe.start` turns on, in a web tier or a script, what the settings say; workers do it themselves.
"""

from __future__ import annotations

from fourlane.observe.begin import begin, check, configure_logs, start
from fourlane.observe.setup import Observe, observe_of

__all__ = ["Observe", "begin", "check", "configure_logs", "observe_of", "start"]
