"""A consumer for dramatiq's own Worker: the same leases as ours, one queue at a time.

Its thread leases and waits (consumer.py); dramatiq's worker threads settle (holding.py) what they say of a message's
end (ends.py). Turns are taken one at a time, on one link, for Redis is told how many leases this consumer believes to
hold. The wait has a link of its own, so that nobody waits for it.
"""

from fourlane.queues.consumer.consumer import LeaseConsumer

__all__ = ["LeaseConsumer"]
