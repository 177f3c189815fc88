"""The tasks that a job's options name for later: the next of a pipeline or a group, and those that hear of its end.

They get what the job had and returned. So who may write a plain job must not name an encrypted task there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fourlane.codec import MESSAGES
from fourlane.errors import Reject

__all__ = ["CALLBACKS", "LATER", "later_tasks", "refuse_unsealed"]

CALLBACKS: Final = frozenset(("on_success", "on_failure", "on_retry_exhausted"))
"""The options that name tasks by which a job's end is told."""
LATER: Final = MESSAGES | CALLBACKS


def later_tasks(options: Mapping[str, Any]) -> Iterator[str]:
    """Their names, those behind them too."""
    if LATER.isdisjoint(options):
        return
    for option in CALLBACKS:
        if isinstance(name := options.get(option), str):
            yield name
    group = options.get("group_completion_callbacks")
    for message in (options.get("pipe_target"), *(group if isinstance(group, (list, tuple)) else ())):
        if not isinstance(message, Mapping):
            continue
        if isinstance(name := message.get("actor_name"), str):
            yield name
        if isinstance(behind := message.get("options"), Mapping):
            yield from later_tasks(behind)


def refuse_unsealed(options: Mapping[str, Any], actors: Mapping[str, Any]) -> None:
    """Of a job that is not sealed. Raises Reject: it would have an encrypted task run with what it says itself."""
    for name in later_tasks(options):
        if getattr(actors.get(name), "encrypt", False) is True:
            raise Reject(
                f"the job is not encrypted, and its options name {name!r}, which is declared with encrypt=True: "
                'somebody else wrote it, or it is from before that (encrypt="accept-plain" lets those run)'
            )
