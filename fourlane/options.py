"""The options of jobs and tasks that a worker reads: what each may be. One table for declarations, calls and workers.

A call with a wrong option is refused where it is made. What strangers wrote into Redis is checked again when the job
begins: a wrong value makes it a dead letter, for nothing that the worker computes with comes unchecked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from fourlane.codec import SEALED, SENT_AS
from fourlane.errors import InvalidOption
from fourlane.retry import LONGEST_MS, Backoff

__all__ = [
    "CHECKED",
    "LONGEST_DELAY_MS",
    "Encrypt",
    "check_declared",
    "check_delay",
    "check_encrypt",
    "check_given",
    "check_sent",
    "fault_of",
    "result_ttl_ms",
    "without_end",
]

LONGEST_DELAY_MS: Final = 253_402_300_799_999
"""The longest delay; also the last moment that a calendar of four-digit years has, since 1970."""

Encrypt = bool | Literal["accept-plain"]
"""What a task says of its jobs: whether they are encrypted, and whether one that is not, from before that, may run."""

_MILLISECONDS: Final = f"a number of milliseconds from 0 to {LONGEST_MS:,} (ten years)"


def without_end(count: Any) -> int | None:
    """How many retries there are at most, as JSON has it; None for no end."""
    return None if count == math.inf else count


def _is_milliseconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= LONGEST_MS


def _is_limit(value: Any) -> bool:
    return value is None or _is_pause(value)


def _is_pause(value: Any) -> bool:
    return _is_milliseconds(value) or value == math.inf


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0) or value == math.inf


def _is_whole_milliseconds(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LONGEST_MS


def _is_moment(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LONGEST_DELAY_MS


def _is_delay(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= LONGEST_DELAY_MS)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


_Rule = tuple[Callable[[Any], bool], str]
_LIMIT: Final[_Rule] = (_is_limit, f"{_MILLISECONDS}, or None")
_NAME: Final[_Rule] = (_is_text, "the name of a task, or None")
_SENT: Final[dict[str, _Rule]] = {
    "time_limit": (_is_limit, f'{_MILLISECONDS}, float("inf") for no limit, or None'),
    "max_age": _LIMIT,
    "max_retries": (_is_count, 'a whole number of 0 or more, or None or float("inf") for no end'),
    "min_backoff": (_is_pause, _MILLISECONDS),
    "max_backoff": (_is_pause, _MILLISECONDS),
    "result_ttl_ms": (_is_whole_milliseconds, f"a whole {_MILLISECONDS[2:]}; 0: not kept"),
    "on_bad_result": (lambda value: value in ("done", "dead"), '"done" or "dead"'),
    "on_success": _NAME,
    "on_failure": _NAME,
    "on_retry_exhausted": _NAME,
    # Of a message of a pipeline: dramatiq takes a later one's from here.
    "delay": (_is_delay, f"a number of milliseconds from 0 to {LONGEST_DELAY_MS:,}, or None"),
    "schedule": (lambda value: isinstance(value, str), "the name of a schedule"),
    "scheduled_for": (_is_moment, "a whole number of milliseconds since 1970"),
}
_OF_BODIES: Final = frozenset((SEALED, SENT_AS))
_OF_SCHEDULES: Final = frozenset(("schedule", "scheduled_for"))
_DECLARED: Final[dict[str, _Rule]] = _SENT | {
    "hard_timeout_ms": _LIMIT,
    "backoff": (lambda value: isinstance(value, Backoff), "a Backoff, such as Backoff(min_ms=1_000, max_ms=60_000)"),
    "retry_when": (lambda value: value is None or callable(value), "a function (retries so far, error) -> bool"),
    "share": (
        lambda value: type(value) in (int, float) and 0 < value <= 1,
        "a part of a worker's slots, above 0 and up to 1",
    ),
    "throws": (
        lambda value: all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in value),
        "an exception class, or several of them in a tuple",
    ),
}


def check_declared(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a task's declaration as they are kept. Raises InvalidOption."""
    kept = dict(options)
    if "throws" in kept:
        throws = kept["throws"]
        kept["throws"] = tuple(throws) if isinstance(throws, (list, tuple, set, frozenset)) else (throws,)
    _check(kept, _DECLARED)
    return kept


def check_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """As check_sent, of options that a call gives: what makes a schedule's job is not for it to say."""
    _refuse(options, _OF_SCHEDULES)
    return check_sent(options)


def check_sent(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one job as its body carries them. Raises InvalidOption."""
    _refuse(options, _OF_BODIES)
    _check(options, _SENT)
    # JSON has no infinity: the longest limit stands for none.
    return {name: LONGEST_MS if value == math.inf else value for name, value in options.items()}


def _refuse(options: Mapping[str, Any], names: frozenset[str]) -> None:
    for name in names & options.keys():
        raise InvalidOption(f"{name}={_shown(options[name])}: Fourlane sets this option itself; leave it out")


def _check(options: Mapping[str, Any], rules: Mapping[str, _Rule]) -> None:
    fault = _fault(options, rules)
    if fault:
        raise InvalidOption(fault)


CHECKED: Final = frozenset(_SENT)
"""The options of a job that are checked: most jobs that have options have none of these."""


def fault_of(options: Mapping[str, Any]) -> str:
    """What is wrong with the options of a job that a stranger may have written; empty when nothing is."""
    return _fault(options, _SENT)


def _fault(options: Mapping[str, Any], rules: Mapping[str, _Rule]) -> str:
    for name, value in options.items():
        rule = rules.get(name)
        if rule is not None and not rule[0](value):
            return f"{name}={_shown(value)}: it must be {rule[1]}"
    return ""


def check_encrypt(given: Any) -> Encrypt:
    """What a task says of encryption. Raises InvalidOption."""
    if given is True or given is False or given == "accept-plain":
        return given  # type: ignore[no-any-return]
    raise InvalidOption(f'encrypt={_shown(given)}: it must be True, False or "accept-plain"')


def check_delay(milliseconds: int, what: str) -> int:
    """Raises InvalidOption: negative, or further than Redis's clock and calendars go."""
    if not 0 <= milliseconds <= LONGEST_DELAY_MS:
        raise InvalidOption(f"{what} must be from 0 to {LONGEST_DELAY_MS:,} milliseconds, not {_shown(milliseconds)}")
    return milliseconds


def result_ttl_ms(options: Mapping[str, Any], otherwise: int) -> int:
    """How long a job's result is kept; what is no such number means the task's own."""
    given = options.get("result_ttl_ms", otherwise)
    return given if _is_whole_milliseconds(given) else otherwise


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # a number of over 4,300 digits, or a __repr__ that raises
        return f"<{type(value).__name__}, {type(error).__name__} when shown>"
    return text if len(text) <= 100 else f"{text[:97]}..."
