"""Whether all goes well now: what one look sees, and what is wrong with it.

``fourlane status``, the alerts without an Alertmanager and the metrics share it. Each rule has a page in docs/runbooks.
"""

from fourlane.queues.status.rules import SEVERITIES, Severity, Trouble, judge, runbook, target_of
from fourlane.queues.status.seen import Beyond, Lag, Late, Seen, Spending, look

__all__ = [
    "SEVERITIES",
    "Beyond",
    "Lag",
    "Late",
    "Seen",
    "Severity",
    "Spending",
    "Trouble",
    "judge",
    "look",
    "runbook",
    "target_of",
]
