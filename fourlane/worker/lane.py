"""What a worker knows of one service between two turns."""

from __future__ import annotations

from collections import deque

from fourlane.outcome import Outcome
from fourlane.queues.connection import Link
from fourlane.worker.run import Run

__all__ = ["Lane"]


class Lane:
    """One service in a worker's loop."""

    def __init__(self, service: str, number: int, tiers: str, name: str) -> None:
        self.service = service
        self.number = number
        self.tiers = tiers
        self.base_name = name
        self.epoch = 0
        self.finished: deque[tuple[Run, Outcome]] = deque()
        self.held = 0
        self.maybe = set(tiers)
        self.due_at: float | None = None
        self.room_at: float | None = None
        self.look_at = 0.0
        self.beaten_at = 0.0
        self.beaten_idle = True  # the last beat gave the long silence of a worker that holds nothing
        self.told = False  # another worker watches this one since it holds leases
        self.told_at = 0.0
        self.others = False
        self.from_token = False
        self.controlled = False
        self.starving = ""
        self.owed = 0
        self.shares = 0
        self.link: Link | None = None
        self.waiter: Link | None = None
        self.waits = False
        self.waits_until = 0.0  # by then Redis must have answered
        self.asked_ahead: tuple[Lane, int, str] | None = None  # whose turn follows the wait; how many, of which tier
        self.beat_by: float | None = None  # it holds leases that no beat has told of yet
        self.done: dict[str, int] = {}  # jobs done since the last look, by tier
        self.uncertain: list[tuple[str, Outcome]] = []
        self.blocked_until = 0.0
        self.out_of_step = False  # a turn failed: what Redis says we hold may not be what we know

    @property
    def name(self) -> str:
        """The lease name; a new one after the leases were lost, so that late runs cannot pass for new ones."""
        return f"{self.base_name}.{self.epoch}"
