"""Later messages, in the options of jobs: the next one of a pipeline, the callbacks of a group.

Each becomes a job one day, where nobody is who could be told what is wrong with it: so it is checked as a job is, at
the call that sends the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fourlane import codec
from fourlane.errors import InvalidArguments, InvalidName, InvalidOption
from fourlane.names import check_tenant
from fourlane.options import check_sent
from fourlane.queues import carry

__all__ = ["checked_messages"]

_NAMES: Final = ("actor_name", "queue_name")
_PARTS: Final = {*_NAMES, "args", "kwargs", "options"}
_FIELDS: Final = {*_PARTS, "message_id", "message_timestamp"}

Options = Mapping[str, Any]


def checked_messages(task: str, actor: Any, options: Options, actors: Mapping[str, Any]) -> Options:
    """A job's options, with each later message as a body carries it.

    Parameters:
      task, actor: the job's.
      actors: all that are known here.

    Raises:
      InvalidArguments, InvalidOption, InvalidName, and what the ``check`` of a message's task raises.
    """
    try:
        return _options(options, actor, actors, "options", options.get("tenant", ""))
    except RecursionError:
        raise InvalidArguments(f"{task}: its later messages are nested too deep, or contain themselves") from None


def _options(options: Options, actor: Any, actors: Mapping[str, Any], path: str, tenant: str) -> Options:
    """``tenant``: of the job, which those that follow it have too."""
    if codec.MESSAGES.isdisjoint(options):
        return options
    target, callbacks = options.get("pipe_target"), options.get("group_completion_callbacks")
    kept = dict(options)
    if target is not None:
        adds_result = not getattr(actor, "options", {}).get("pipe_ignore")
        kept["pipe_target"] = _message(target, actors, f"{path}.pipe_target", tenant, adds_result)
    if callbacks is not None:
        place = f"{path}.group_completion_callbacks"
        if not isinstance(callbacks, (list, tuple)):
            raise InvalidOption(f"{place} must be a list of messages, not {callbacks!r:.100}")
        kept["group_completion_callbacks"] = [
            _message(each, actors, f"{place}[{number}]", tenant, False) for number, each in enumerate(callbacks)
        ]
    return kept


def _message(given: Any, actors: Mapping[str, Any], path: str, tenant: str, adds_result: bool) -> dict[str, Any]:
    """``adds_result``: it gets the result of the message before it, unless it says no."""
    message = _fields(given, path)
    name, args, kwargs, options = (message[part] for part in ("actor_name", "args", "kwargs", "options"))
    codec.check(name, args, kwargs, path=f"{path}.")
    options = _sent(options, path)
    actor = actors.get(name)
    check = getattr(actor, "check", None)
    knows_all = options.get("pipe_ignore") or not adds_result  # else one argument is not known yet
    if actor is not None and check is not None and knows_all:
        carry.look(check, int(actor.tier), {"tenant": tenant, **options}, args, kwargs)
    tenant = options.get("tenant", tenant)
    return {**message, "options": _options(options, actor, actors, f"{path}.options", tenant)}


def _fields(given: Any, path: str) -> dict[str, Any]:
    """Of a message, or of what its ``asdict()`` gave. Raises InvalidOption."""
    message = given.asdict() if hasattr(given, "asdict") else given
    if not isinstance(message, Mapping):
        raise InvalidOption(f"{path} must be a message, or the dict of one, not {given!r:.100}")
    if not message.keys() >= _PARTS or not message.keys() <= _FIELDS:
        raise InvalidOption(f"{path} must have the fields of a message, not {', '.join(map(str, message))}")
    for name in _NAMES:
        if not isinstance(message[name], str):
            raise InvalidOption(f"{path}.{name} must be a text, not {message[name]!r:.100}")
    if not isinstance(message["options"], Mapping):
        raise InvalidOption(f"{path}.options must be a dict, not {message['options']!r:.100}")
    return dict(message)


def _sent(options: Options, path: str) -> dict[str, Any]:
    try:
        sent = check_sent(options)
        if "tenant" in sent:
            sent["tenant"] = check_tenant(sent["tenant"])
    except (InvalidOption, InvalidName) as error:
        raise type(error)(f"{path}: {error}") from None
    return sent
