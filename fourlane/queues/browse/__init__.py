"""What is in the queues, read only: counts, ages, one job, the workers, tasks that nobody knew.

Counts come from Redis's own sizes, never from a scan, so looking costs the same however much is waiting.
"""

from fourlane.queues.browse.counts import (
    QueueInfo,
    Rate,
    ServiceInfo,
    known_queue,
    queue_of,
    queues,
    rates,
    services,
    unfinished,
)
from fourlane.queues.browse.jobs import job, job_info, locate
from fourlane.queues.browse.server import Traffic, eviction_policy, memory, now_ms, traffic
from fourlane.queues.browse.workers import MissingTask, Overrun, WorkerInfo, unknown_tasks, workers

__all__ = [
    "MissingTask",
    "Overrun",
    "QueueInfo",
    "Rate",
    "ServiceInfo",
    "Traffic",
    "WorkerInfo",
    "eviction_policy",
    "job",
    "job_info",
    "known_queue",
    "locate",
    "memory",
    "now_ms",
    "queue_of",
    "queues",
    "rates",
    "services",
    "traffic",
    "unfinished",
    "unknown_tasks",
    "workers",
]
