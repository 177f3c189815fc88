"""The transactional outbox: jobs that exist exactly when a transaction commits (docs/outbox.md).

``enqueue`` writes a row in the caller's own transaction; a relay (relay.py) moves committed rows to Redis.
"""

from fourlane.outbox.enqueue import enqueue, enqueue_with_options

__all__ = ["enqueue", "enqueue_with_options"]
