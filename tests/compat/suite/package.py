"""Takes the place of ``tests/__init__.py``: wherever dramatiq's tests name its RedisBroker, they get ours.

Its command line imports test modules too, so this holds for the processes that tests start.
"""

import dramatiq.brokers.redis

import fourlane

dramatiq.brokers.redis.RedisBroker = fourlane.RedisBroker
