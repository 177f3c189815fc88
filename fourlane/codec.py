"""A job to bytes and back: a JSON array, as short as the job allows.

``["task", [args], {kwargs}, {options}, enqueued_ms, call, [lines]]``, with what is empty left off at the end. The id
and the queue are not in it: Redis keeps the body under the id, and the id begins with the tier. A line feed behind it
says that it names lines, to the script that leases it (queues/lua/parts/admit.lua).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from fourlane.errors import InvalidArguments, JobTooLarge, UnreadableJob

__all__ = [
    "LINES",
    "MAX_BODY_BYTES",
    "MAX_RESULT_BYTES",
    "MESSAGES",
    "SEALED",
    "SENT_AS",
    "Envelope",
    "Parts",
    "canonical",
    "check",
    "decode",
    "encode",
    "encode_parts",
    "encode_value",
    "is_sealed",
    "parts_of",
    "with_option",
]

MAX_BODY_BYTES: Final = 1_048_576
MAX_RESULT_BYTES: Final = 1_048_576
SEALED: Final = "sealed"
"""The option of jobs whose arguments are encrypted (sealing.py)."""
SENT_AS: Final = "fourlane_message_id"
"""The option by which a job knows its message's id, where an earlier job has that for its own."""
LINES: Final = "fourlane_lines"
"""The option that carries a job's lines through the outbox."""
MESSAGES: Final = frozenset(("pipe_target", "group_completion_callbacks"))
"""The options that carry later messages of dramatiq's, with their arguments."""


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A job's body, decoded."""

    task: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    enqueued_ms: int = 0
    call: int = 0
    lines: list[str] = []


def is_sealed(envelope: Envelope) -> bool:
    return SEALED in envelope.options


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode = msgspec.json.Encoder(enc_hook=_refuse).encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Envelope).decode
_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_NAMES_LINES: Final = b"\n"
_PLAIN: Final = frozenset((str, int, bool, type(None)))


def encode(
    task: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    enqueued_ms: int = 0,
    call: int = 0,
    lines: Sequence[str] = (),
    max_bytes: int = MAX_BODY_BYTES,
) -> bytes:
    """A job's body.

    Parameters:
      call: makes the bodies of two calls differ that are equal in all else, for an equal body under an equal id is
        the same job. It means nothing to who reads them.
      lines: in which it waits (queues/lines.py).

    Raises:
      InvalidArguments: a value that JSON cannot carry, with the path to it.
      JobTooLarge: the body is over ``max_bytes``.
    """
    try:
        fits = (
            type(args) in (list, tuple)
            and _fits(args)
            and (not kwargs or (type(kwargs) is dict and _fits(kwargs)))
            and (not options or _fits(options))
        )
    except RecursionError:
        fits = False
    if not fits:
        check(task, args, kwargs, options)
    parts: tuple[Any, ...]
    if lines:
        parts = (task, args, kwargs or {}, options or {}, enqueued_ms, call, lines)
    elif call:
        parts = (task, args, kwargs or {}, options or {}, enqueued_ms, call)
    elif enqueued_ms:
        parts = (task, args, kwargs or {}, options or {}, enqueued_ms)
    elif options:
        parts = (task, args, kwargs or {}, options)
    elif kwargs:
        parts = (task, args, kwargs)
    else:
        parts = (task, args)
    try:
        body = _encode(parts)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArguments(f"{task}: {error}") from None
    if lines:
        body += _NAMES_LINES
    if len(body) > max_bytes:
        raise JobTooLarge(
            f"{task}: the job's body has {len(body):,} bytes, the limit is {max_bytes:,}; "
            "store the data elsewhere and pass a reference to it"
        )
    return body


def check(
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    path: str = "",
) -> None:
    """Raises InvalidArguments for what JSON cannot carry. ``path``: where the job lies that has them, with its dot."""
    what = "arguments"
    try:
        _check_arguments(args, kwargs, path)
        what = "options"
        _check(dict(options or {}), f"{path}options")
    except RecursionError:
        raise InvalidArguments(f"{task}: its {what} are nested too deep, or contain themselves") from None


def encode_parts(
    task: str, args: bytes, kwargs: bytes, options: Mapping[str, Any], enqueued_ms: int, lines: Sequence[str] = ()
) -> bytes:
    """The body of a job whose arguments are JSON already."""
    parts = (task, msgspec.Raw(args), msgspec.Raw(kwargs), options, enqueued_ms)
    return _encode((*parts, 0, lines)) + _NAMES_LINES if lines else _encode(parts)


def with_option(options: str, name: str, value: Any) -> str:
    """Options as JSON, with one more."""
    return _encode({**msgspec.json.decode(options, type=dict[str, msgspec.Raw]), name: value}).decode()


class Parts(NamedTuple):
    """What a body is made of, each as JSON."""

    args: str
    kwargs: str = "{}"
    options: str = "{}"


def parts_of(body: bytes) -> Parts:
    return Parts(*(bytes(part).decode() for part in _decode_parts(body)[1:4]))


def decode(body: bytes) -> Envelope:
    """Read a body. Raises UnreadableJob."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableJob(f"the job's body cannot be read: {error}") from None


def encode_value(value: Any, what: str) -> bytes:
    """A result, or any other value, as JSON. Raises InvalidArguments with the path of what JSON cannot carry."""
    try:
        if not _fits(value):
            _check(value, what)
        return _encode(value)
    except RecursionError:
        raise InvalidArguments(f"{what}: it is nested too deep, or contains itself") from None
    except ValueError as error:  # a lone surrogate
        raise InvalidArguments(f"{what}: {error}") from None


def canonical(value: Any, what: str) -> bytes:
    """A value as JSON that is the same for what is equal once it was read again. Raises InvalidArguments."""
    try:
        return _encode_sorted(msgspec.json.decode(_encode(value)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArguments(f"{what}: {error}") from None


def _fits(value: Any) -> bool:
    """True for most of what JSON can carry; where not, _check decides, and says where the fault lies."""
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or (type(item) not in _PLAIN and not _fits(item)):
                return False
        return True
    if kind is list or kind is tuple:
        for item in value:  # noqa: SIM110 - all() of a generator costs more
            if type(item) not in _PLAIN and not _fits(item):
                return False
        return True
    return kind in _PLAIN or (kind is float and -math.inf < value < math.inf)


def _check_arguments(args: Any, kwargs: Any, path: str) -> None:
    if not isinstance(args, (list, tuple)):
        raise InvalidArguments(
            f"{path}args must be a list or tuple of arguments, not {args!r:.100}; a single one is [value]"
        )
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise InvalidArguments(f"{path}kwargs must be a dict of named arguments, not {kwargs!r:.100}")
    _check(args, f"{path}args")
    if kwargs:
        _check(dict(kwargs), f"{path}kwargs")


def _check(value: Any, path: str) -> None:
    """Refuse what JSON cannot carry back unchanged in kind. msgspec alone would write dates, sets and NaN."""
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is float:
        if not math.isfinite(value):
            raise InvalidArguments(f"{path}: {value!r} cannot be carried as JSON")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidArguments(f"{path}: the key {key!r} is {type(key).__name__}; JSON keys are strings")
            _check(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]")
    elif not isinstance(value, (str, int, float)):
        raise InvalidArguments(
            f"{path}: {kind.__module__}.{kind.__qualname__} cannot be carried as JSON; pass a string, a number, "
            "a list or a dict instead"
        )
