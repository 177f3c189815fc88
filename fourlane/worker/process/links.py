"""Connections for what is said again soon: each try is the only one, for the processes need us."""

from __future__ import annotations

import logging

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import Connector, Link

__all__ = ["Links"]

log = logging.getLogger("fourlane.worker")


class Links:
    """One to the server, or to each node of a cluster, opened when it is first needed. For one thread."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._links: dict[bytes, Link] = {}

    def of(self, key: bytes) -> Link:
        """To the server that has this key."""
        place = key if self._connector.clustered else b""
        link = self._links.get(place)
        if link is None:
            link = self._links[place] = self._connector.open(key)
        return link

    def drop(self) -> None:
        """After one that failed: begin anew, and learn who has which key."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        try:
            self._connector.refresh()
        except RedisUnavailable as error:
            log.debug("%s", error)
