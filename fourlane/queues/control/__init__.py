"""What operators change while jobs run: pauses, limits, cancelling, purging, hastening."""

from fourlane.queues.control.ending import cancel, purge
from fourlane.queues.control.hastening import hasten
from fourlane.queues.control.limiting import clear, declare_limits, limits, pause, resume, rewrite, set_limit

__all__ = ["cancel", "clear", "declare_limits", "hasten", "limits", "pause", "purge", "resume", "rewrite", "set_limit"]
