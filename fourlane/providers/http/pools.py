"""Connections kept for reuse: one pool per process and value of ``allow_private``."""

from __future__ import annotations

import os
import ssl
import threading
from typing import Final

import httpcore
import httpx

from fourlane.providers.http.connect import GuardedBackend

__all__ = ["close", "pool"]

_IDLE_CONNECTIONS: Final = 100
# Node closes idle connections after 5 s. Ending ours earlier spares us the race in which a request is
# sent to a connection that is just being closed, which costs the job an attempt.
_IDLE_SECONDS: Final = 4.0

_pools: dict[bool, httpcore.ConnectionPool] = {}
_pools_lock = threading.Lock()


def pool(*, allow_private: bool) -> httpcore.ConnectionPool:
    # Two pools, so that a call without allow_private never meets a connection opened with it.
    with _pools_lock:
        kept = _pools.get(allow_private)
        if kept is None:
            kept = _pools[allow_private] = httpcore.ConnectionPool(
                ssl_context=_tls_context(),
                max_connections=None,  # the caller's threads are the limit
                max_keepalive_connections=_IDLE_CONNECTIONS,
                keepalive_expiry=_IDLE_SECONDS,
                network_backend=GuardedBackend(allow_private=allow_private),
            )
        return kept


def close() -> None:
    """Close this process's connections; the next call opens new ones."""
    with _pools_lock:
        pools = list(_pools.values())
        _pools.clear()
    for each in pools:
        each.close()


def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _forget_pools() -> None:
    """In a forked child: leave the parent its connections, and a lock that nobody here can release."""
    global _pools_lock
    _pools_lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget_pools)
