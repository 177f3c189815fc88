"""Looks at the server and the keys and says what is wrong, why it matters, and what to do. Changes nothing.

Hosted servers refuse some questions; then the finding says "not allowed to look", and nothing fails.
"""

from fourlane.queues.doctor.examination import examine
from fourlane.queues.doctor.findings import NEAR, Finding, Level
from fourlane.queues.doctor.jobs import unserved

__all__ = ["NEAR", "Finding", "Level", "examine", "unserved"]
