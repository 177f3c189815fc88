"""What failed between us and a server, as our error: whether another try may help, and what to do."""

from __future__ import annotations

import errno
import re
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import failures

__all__ = [
    "is_answer",
    "is_full",
    "is_passing",
    "is_refusal",
    "is_unsupported",
    "lacks_right",
    "may_come",
    "unavailable",
    "wants_new_address",
]

_LOST: Final = (failures.ConnectionError, failures.TimeoutError, failures.RedisClusterException, OSError)
# The server's word for what went wrong: redis-py cuts it off, Redis 6 hides it inside the text of a script's error.
_WORD = re.compile(r"\b(OOM|MISCONF|NOREPLICAS|READONLY|LOADING|BUSY|MASTERDOWN|UNBLOCKED|MOVED|ASK|CLUSTERDOWN|"
                   r"TRYAGAIN|CROSSSLOT|NOAUTH|WRONGPASS|NOPERM)\b")  # fmt: skip
_PASSING: Final = {"READONLY", "LOADING", "BUSY", "MASTERDOWN", "UNBLOCKED", "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN"}
_TO_A_PATH: Final = " connecting to /"
_LACKS_CA: Final = "CERTIFICATE_VERIFY_FAILED"
_NO_CLUSTER: Final = "Cluster mode is not enabled"
_DENIED: Final = {"NOAUTH", "WRONGPASS", "NOPERM"}
_WRITES_NOTHING: Final = {"OOM", "MISCONF", "NOREPLICAS"}


def is_passing(error: RedisUnavailable) -> bool:
    """True when the same call may succeed on a new connection."""
    cause = error.__cause__
    return (isinstance(cause, _LOST) or _word(cause) in _PASSING) and not _is_denied(cause)


def may_come(error: RedisUnavailable) -> bool:
    """True when the server may be there later, with nobody changing our settings."""
    lasts = _LACKS_CA in str(error) or _NO_CLUSTER in str(error) or _lacks_file(error.__cause__)
    return is_passing(error) and not lasts


def wants_new_address(error: Exception) -> bool:
    """True when redis-py's error says that this server cannot do it now, and another may: READONLY and the like."""
    return _word(error) in _PASSING


def _errno(error: BaseException) -> int | None:
    own = error if isinstance(error, OSError) and error.errno else _below(error)
    return own.errno if isinstance(own, OSError) else None


def _below(error: BaseException | None) -> BaseException | None:
    """The operating system's error that was the reason of this one."""
    return error.below if isinstance(error, failures.RedisError) else None


def _lacks_file(error: BaseException | None) -> bool:
    """Of its certificates: a Unix socket's file may come."""
    return isinstance(_below(error), FileNotFoundError) and _TO_A_PATH not in str(error)


def is_answer(error: RedisUnavailable) -> bool:
    """True when the server was reached, and said no: for whatever reason."""
    return isinstance(error.__cause__, failures.ResponseError)


def is_refusal(error: RedisUnavailable) -> bool:
    """True when the server is well and refused just this, e.g. for a key of the wrong type."""
    cause = error.__cause__
    if not isinstance(cause, failures.ResponseError) or _is_denied(cause):
        return False
    return _word(cause) not in _PASSING | _WRITES_NOTHING


def is_unsupported(error: RedisUnavailable) -> bool:
    """True when the server, or what reads its answers here, does not know this command."""
    cause = error.__cause__
    return isinstance(cause, (failures.ResponseError, failures.InvalidResponse)) and _word(cause) not in _PASSING


def lacks_right(error: RedisUnavailable) -> bool:
    """True when the user that we are may not run this command, or not on this key."""
    return _word(error.__cause__) == "NOPERM"


def is_full(error: RedisUnavailable) -> bool:
    """True when the server is out of memory; it has then done nothing."""
    return _word(error.__cause__) == "OOM"


def unavailable(error: Exception) -> RedisUnavailable:
    """Our error for one of redis-py's, with what to do."""
    if isinstance(error, RedisUnavailable):
        return error
    word = _word(error)
    if _is_denied(error):
        hint = "check the user and the password in REDIS_URL, and the user's rights (docs/operating.md)"
    elif word in _HINTS:
        hint = _HINTS[word]
    elif isinstance(error, failures.ResponseError):
        hint = "Redis answered with an error"
    elif _LACKS_CA in str(error):
        hint = "name the CA that signed the server's certificate: rediss://…?ssl_ca_certs=FILE"
    elif _NO_CLUSTER in str(error):
        hint = "this server is of no cluster: leave cluster=true out of REDIS_URL; or this user lacks +cluster|slots"
    elif _errno(error) in (errno.EMFILE, errno.ENFILE):
        hint = "this program has no file descriptor left; raise its limit (ulimit -n)"
    elif _lacks_file(error):
        hint = "a file that REDIS_URL names does not exist: ssl_ca_certs, ssl_certfile or ssl_keyfile"
    elif not isinstance(error, (*_LOST, failures.RedisError)):
        hint = "check the address and the options in REDIS_URL"
    else:
        hint = "is the server running, and REDIS_URL right?"
    return RedisUnavailable(f"Redis: {str(error) or type(error).__name__} ({hint})")


_NODE_HINT: Final = "other keys are other nodes'; of a node of a Redis Cluster say so: redis://HOST:PORT/0?cluster=true"
_HINTS: Final = {
    "MOVED": _NODE_HINT,
    "CROSSSLOT": _NODE_HINT,
    "OOM": "Redis is out of memory; give it more, or drop dead letters",
    "MISCONF": "Redis cannot write to its disk and refuses writes; free space there",
    "NOREPLICAS": "Redis refuses writes while too few replicas are connected",
    "READONLY": "this server is a replica; is a failover under way?",
    "LOADING": "Redis is loading its data; it will answer soon",
    "BUSY": "Redis runs a script of somebody that does not end",
}


def _word(error: BaseException | None) -> str:
    """The word by which Redis names this error; "" when it is none of those that matter here."""
    if not isinstance(error, failures.RedisError):
        return ""
    if _WORD.fullmatch(error.word):
        return error.word
    found = _WORD.search(str(error)) if isinstance(error, failures.ResponseError) else None
    return found[0] if found else ""


def _is_denied(error: BaseException | None) -> bool:
    if isinstance(error, (failures.AuthenticationError, failures.AuthorizationError)) or _word(error) in _DENIED:
        return True
    # Inside a script, in the words of Valkey and of Redis.
    return isinstance(error, failures.ResponseError) and (
        "ACL failure in script" in str(error) or "The user executing the script can't" in str(error)
    )
