"""What can go wrong between us and a server. The names are redis-py's, whose own errors become these.

RedisError
├── ConnectionError             no connection, or none any more
│   ├── AuthenticationError     the server does not know us
│   └── AuthorizationError      nor lets us in
├── TimeoutError                it does not answer in time
├── InvalidResponse             it speaks what we do not understand
└── ResponseError               it answered that it will not
    └── NoScriptError           it does not know this script
RedisClusterException           no node of a cluster answers, or it is none
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "ConnectionError",
    "InvalidResponse",
    "NoScriptError",
    "RedisClusterException",
    "RedisError",
    "ResponseError",
    "TimeoutError",
    "answered",
    "of",
]


class RedisError(Exception):
    """Base of what servers and connections raise.

    Parameters:
      word: the server's own for it, where it begins with one; not repeated in the text.
      below: the operating system's error.
    """

    def __init__(self, text: str = "", *, word: str = "", below: BaseException | None = None) -> None:
        super().__init__(text)
        self.word = word
        self.below = below


class ConnectionError(RedisError):
    """There is no connection, or it broke."""


class AuthenticationError(ConnectionError):
    """User or password are not right, or missing."""


class AuthorizationError(ConnectionError):
    """Who we are may not connect."""


class TimeoutError(RedisError):
    """No answer in time."""


class InvalidResponse(RedisError):
    """What came is no reply."""


class ResponseError(RedisError):
    """The server's answer is an error."""


class NoScriptError(ResponseError):
    """The server does not know the script of this hash."""


class RedisClusterException(RedisError):
    """Of the cluster as a whole; ``below`` is the last node's error."""


_NO_REPLY: Final = ("LOADING", "NOAUTH", "WRONGPASS")
"""Words after which a connection is of no use."""
_CUT: Final = frozenset(
    ("ERR", "OOM", "EXECABORT", "NOSCRIPT", "READONLY", "NOPERM", "ASK", "TRYAGAIN", "MOVED", "CLUSTERDOWN",
     "CROSSSLOT", "MASTERDOWN", *_NO_REPLY)
)  # fmt: skip
"""Words that are left out of the text."""
_DENIALS: Final = (
    "invalid password",
    "AUTH called without any password configured for the default user. Are you sure your configuration is correct?",
    "Client sent AUTH, but no password is set",
)


def answered(reply: str) -> RedisError:
    """The error that a server answered with."""
    word, _, rest = reply.partition(" ")
    if word not in _CUT:
        return ResponseError(reply)
    if word in ("NOAUTH", "WRONGPASS") or (word == "ERR" and rest in _DENIALS):
        return AuthenticationError(rest, word=word)
    if word == "LOADING" or (word == "ERR" and rest == "max number of clients reached"):
        return ConnectionError(rest, word=word)
    return NoScriptError(rest, word=word) if word == "NOSCRIPT" else ResponseError(rest, word=word)


def of(error: Exception) -> Exception:
    """Ours for one of redis-py's; others as they are."""
    for kind in type(error).__mro__:
        ours = _OURS.get(kind.__name__) if kind.__module__ == "redis.exceptions" else None
        if ours is not None:
            below = error.__cause__ if ours is RedisClusterException else error.__context__
            return ours(str(error), word=str(getattr(error, "status_code", None) or ""), below=below)
    return error


_OURS: Final[dict[str, type[RedisError]]] = {
    kind.__name__: kind
    for kind in (
        AuthenticationError, AuthorizationError, ConnectionError, InvalidResponse, NoScriptError,
        RedisClusterException, RedisError, ResponseError, TimeoutError,
    )
}  # fmt: skip
