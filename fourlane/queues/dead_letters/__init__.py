"""Dead letters: find, show, edit, replay, discard, and carry them to files and back."""

from fourlane.queues.dead_letters.change import discard, drop_old, edit, replay
from fourlane.queues.dead_letters.files import Imported, export, import_
from fourlane.queues.dead_letters.letters import Filter
from fourlane.queues.dead_letters.look import Page, count, find, show
from fourlane.queues.dead_letters.trail import AuditRecord, audit

__all__ = [
    "AuditRecord",
    "Filter",
    "Imported",
    "Page",
    "audit",
    "count",
    "discard",
    "drop_old",
    "edit",
    "export",
    "find",
    "import_",
    "replay",
    "show",
]
