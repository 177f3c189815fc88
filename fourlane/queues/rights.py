"""The commands that Fourlane needs, and which of them a user of Redis may not run."""

from __future__ import annotations

from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import is_answer, lacks_right
from fourlane.queues.store import Store

__all__ = ["NEEDED", "check", "check_whole", "denied", "fault"]

# Each as it is tried on a list of one element, so that those for other types change nothing.
_TRIED: Final = """
rpush K x
pexpire K 5000
pttl K
persist K
get K
set K x NX
exists K
get K
pttl K
set K x nx
time
ping
eval return 0
evalsha 0000000000000000000000000000000000000000 0
blmove K K LEFT LEFT 0.01
lindex K 0
hlen K
llen K
lpop K 0
lpush K x
lrange K 0 0
ltrim K 0 0
hdel K x
hexists K x
hget K x
hgetall K
hincrby K x 1
hincrbyfloat K x 1
hkeys K
hmget K x
hscan K 0
hset K x x
hsetnx K x x
hstrlen K x
sadd K x
scard K
sismember K x
smembers K
smismember K x
srandmember K 1
srem K x
bzpopmin K 0.01
zadd K 0 x
zcard K
zcount K 0 0
zmscore K x
zpopmin K 1
zrange K 0 0
zrangebyscore K 0 0
zrangebylex K - +
zrem K x
zremrangebyrank K 0 0
zremrangebyscore K 0 0
zrevrange K 0 0
zrevrangebyscore K 0 0
zscore K x
xadd K * x x
xlen K
xread STREAMS K 0
xrevrange K + - COUNT 1
set K x PX 5000
get K
type K
del K
"""

NEEDED: Final = frozenset(line.split()[0] for line in _TRIED.split("\n") if line)


def denied(store: Store) -> list[str]:
    """Those that this user may not run on our keys. Raises RedisUnavailable."""
    key = store.keys.rights
    found = []
    link = store.connector.open(key)
    try:
        for line in _TRIED.strip().splitlines():
            name, *words = line.split()
            try:
                link.send(name, *(key if word == "K" else word for word in words))
                link.receive_script()  # of one that no server knows, too
            except RedisUnavailable as error:
                if lacks_right(error):
                    found.append(name)
                elif not is_answer(error):
                    raise
    finally:
        link.close()
    return sorted(found)


def fault(store: Store, lacking: list[str]) -> str:
    """What is lacking, on the keys of this environment as an ACL names them; another's are another user's."""
    of, where = store.namespace, store.environment
    return f"this user may not run {', '.join(lacking)} on keys {of}:{{{where}:* and {of}:{where}:*"


def check(store: Store) -> None:
    """Raises RedisUnavailable when this user lacks a right: better before the first job than amid a script."""
    lacking = denied(store)
    if lacking:
        raise RedisUnavailable(f"Redis: {fault(store, lacking)}; give it the rights that docs/operating.md lists")


def check_whole(store: Store) -> None:
    """Raises RedisUnavailable: REDIS_URL names one node of a cluster, and does not say so; or Redis is not there yet.

    A right that is missing is told elsewhere, together with others.
    """
    keys = [store.keys.services]
    if not store.connector.clustered:
        keys.append(store.service("default").jobs)  # of another slot: a node of a cluster refuses both in one command
    try:
        store.connector.command(keys[0], "EXISTS", *keys)
    except RedisUnavailable as error:
        if not lacks_right(error):
            raise
