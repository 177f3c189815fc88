"""The keys: those that nobody knows, nobody cleans, or are of the wrong type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.doctor.findings import NOT_ALLOWED, Finding, Level, some
from fourlane.queues.doctor.server import ask
from fourlane.queues.keys import Catalogue
from fourlane.queues.redis import Link, is_answer
from fourlane.queues.store import Store

__all__ = ["look_at_keys"]

_MOST_KEYS: Final = 100_000
_SCAN_CALLS: Final = 2_000
_SCAN_COUNT: Final = 1_000


class Sweep:
    """What a scan of the namespace found."""

    def __init__(self, store: Store) -> None:
        self._catalogue = Catalogue(store.namespace)
        self._environment = store.environment
        self.seen = 0
        self.complete = True
        self.strange: list[str] = []
        self.garbage: list[str] = []
        self.lasting: list[str] = []
        self.leased: dict[tuple[str, str], str] = {}
        """Leased sets of this environment by service and lease name."""

    def look(self, link: Link, keys: Sequence[bytes]) -> None:
        types = _many(link, [("TYPE", key) for key in keys])
        results: list[bytes] = []
        for raw, kind in zip(keys, types, strict=True):
            key = raw.decode(errors="replace")
            if kind in (b"none", None):  # gone since, or not ours to ask
                continue
            known = self._catalogue.read(key)
            if known is None:
                self.strange.append(key)
                continue
            what, _, name = known.name.partition(":")
            if what == "leased" and known.environment == self._environment:
                self.leased[known.service, name] = key
            if kind.decode() != known.type:
                self.garbage.append(f"{key} is a {kind.decode()}, not a {known.type}")
            elif what == "result":
                results.append(raw)
        ttls = _many(link, [("PTTL", key) for key in results])
        self.lasting += [k.decode(errors="replace") for k, ttl in zip(results, ttls, strict=True) if ttl == -1]


def _many(link: Link, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Replies to many commands in one round trip; None for one that was refused."""
    for command in commands:
        link.send(*command)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(link.receive())
        except RedisUnavailable as error:
            if not is_answer(error):
                raise
            replies.append(None)
    return replies


def look_at_keys(store: Store, links: Sequence[Link]) -> Iterator[Finding]:
    sweep = Sweep(store)
    for link in links:
        if not _scan(store, link, sweep):
            yield Finding(Level.OK, "keys", NOT_ALLOWED)
            return
    bound = "" if sweep.complete else f" (the first {_MOST_KEYS:,} of them; there are more)"
    orphans = _orphans(store, sweep)
    if not sweep.strange and not orphans:
        yield Finding(Level.OK, "keys", f"{sweep.seen:,} keys, every one has an owner{bound}")
    if sweep.strange:
        yield Finding(
            Level.WARN,
            "keys",
            f"{len(sweep.strange):,} key(s) that Fourlane does not know{bound}: {some(sweep.strange)}",
            f"nobody cleans them: remove them, or give the program that writes them another prefix than "
            f"{store.namespace}:",
        )
    if orphans:
        yield Finding(
            Level.WARN,
            "leases",
            f"{len(orphans):,} leased set(s) of workers that nobody watches{bound}: {some(orphans)}",
            "their jobs do not come back by themselves; report this, it is a bug",
        )
    if sweep.garbage:
        yield Finding(
            Level.ERROR,
            "types",
            f"{len(sweep.garbage):,} key(s) of the wrong type: {some(sweep.garbage)}",
            "another program writes here: give Fourlane a namespace of its own, then remove these keys",
        )
    if sweep.lasting:
        yield Finding(
            Level.WARN,
            "results",
            f"{len(sweep.lasting):,} result(s) that never expire: {some(sweep.lasting)}",
            "somebody removed their expiry: set one, or remove them",
        )


def _scan(store: Store, link: Link, sweep: Sweep) -> bool:
    """Look at a server's keys in batches; False when it does not let us."""
    cursor: Any = 0
    for _ in range(_SCAN_CALLS):
        reply = ask(link, "SCAN", cursor, "MATCH", f"{store.namespace}:*", "COUNT", _SCAN_COUNT)
        if reply is None:
            return False
        cursor, keys = int(reply[0]), reply[1]
        keys = keys[: _MOST_KEYS - sweep.seen]
        sweep.seen += len(keys)
        if keys:
            sweep.look(link, keys)
        if cursor == 0:
            return True
        if sweep.seen >= _MOST_KEYS:
            break
    sweep.complete = False
    return True


def _orphans(store: Store, sweep: Sweep) -> list[str]:
    names: dict[str, set[str]] = {}
    found = []
    for (service, name), key in sweep.leased.items():
        if service not in names:  # read after the scan: a worker is on the list before it leases
            names[service] = set(store.lease_names(service))
        # It may have been emptied by a worker that left while we looked.
        if name not in names[service] and store.connector.command(key.encode(), "EXISTS", key):
            found.append(key)
    return found
