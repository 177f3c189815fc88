"""Conversations as callers write them, JSON, checked with the path of a fault; and as models are asked them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

import msgspec

from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai import ChatMessage, Media, ToolCall

__all__ = ["Kind", "Source", "Turn", "messages_of", "sources_of", "turns_of"]

Kind = Literal["image", "file", "audio"]
Role = Literal["user", "assistant", "tool"]
_KINDS: Final = ("image", "file", "audio")
_FIELDS: Final[Mapping[Role, frozenset[str]]] = {
    "user": frozenset({"role", "content"}),
    "assistant": frozenset({"role", "content", "tool_calls", "raw"}),
    "tool": frozenset({"role", "content", "id"}),
}
_CALL: Final = ("id", "name", "arguments")
_RAW: Final = frozenset({"provider", "model", "content"})


@dataclass(frozen=True, slots=True)
class Source:
    """What a message refers to: a URL, a storage reference, a path. ``where``: its place in the arguments."""

    kind: Kind
    source: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of a conversation, its sources not read yet; else as ``ChatMessage``."""

    role: Role
    text: str = ""
    sources: tuple[Source, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    raw: Mapping[str, Any] | None = None


def turns_of(prompt: str | None, messages: Any, files: Any) -> tuple[Turn, ...]:
    """What is asked, by a prompt with its files or by messages. Raises InvalidArguments with the path of the fault."""
    given = _sources(files)
    if messages is None:
        if prompt is not None and not isinstance(prompt, str):
            raise InvalidArguments(f"the prompt is text, not {type(prompt).__name__}")
        if not (prompt or "").strip() and not given:
            raise InvalidArguments("the prompt is empty; give a prompt, files or messages")
        return (Turn(role="user", text=prompt or "", sources=given),)
    if prompt is not None:
        raise InvalidArguments("give a prompt or messages, not both: the prompt is the last of the messages")
    if given:
        raise InvalidArguments("files go with a prompt; in messages each is a part of the content that it belongs to")
    if not _is_list(messages) or not messages:
        raise InvalidArguments("messages: a list of one message at least")
    turns = _merged([_turn(message, f"messages[{place}]") for place, message in enumerate(messages)])
    _check_order(turns)
    return tuple(turns)


def sources_of(turns: Sequence[Turn]) -> list[Source]:
    """What is to be read for them, in their order."""
    return [source for turn in turns for source in turn.sources]


def messages_of(turns: Sequence[Turn], media: Sequence[Media]) -> tuple[ChatMessage, ...]:
    """The messages that a model is asked; ``media``: what their sources held. Raises Reject: an image is none."""
    held = iter(media)
    return tuple(
        ChatMessage(
            role=turn.role,
            text=turn.text,
            media=tuple(_fit(source, next(held)) for source in turn.sources),
            calls=turn.calls,
            call_id=turn.call_id,
            raw=turn.raw,
        )
        for turn in turns
    )


def _fit(source: Source, media: Media) -> Media:
    if source.kind != "file" and not media.media_type.startswith(f"{source.kind}/"):
        raise Reject(f"{source.where}: is no {source.kind}, but {media.media_type}")
    return media


def _sources(files: Any) -> tuple[Source, ...]:
    if not _is_list(files):
        raise InvalidArguments(f"files: a list of sources, not {type(files).__name__}")
    return tuple(Source("file", _text(one, f"files[{place}]"), f"files[{place}]") for place, one in enumerate(files))


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, Mapping):
        raise InvalidArguments(f'{where}: an object {{"role", "content"}}, not {type(message).__name__}')
    role: Any = message.get("role")
    if role in ("system", "developer"):
        raise InvalidArguments(f"{where}.role: instructions are given as system=")
    if role not in list(_FIELDS):  # it may be no key of anything
        raise InvalidArguments(f"{where}.role: user, assistant or tool, not {role!r}")
    _refuse_unknown(message, _FIELDS[role], where)
    text, sources = _content(message.get("content"), role, f"{where}.content")
    wanted = message.get("tool_calls")
    if wanted is not None and not _is_list(wanted):
        raise InvalidArguments(f"{where}.tool_calls: a list, not {type(wanted).__name__}")
    calls = tuple(_call(one, f"{where}.tool_calls[{place}]") for place, one in enumerate(wanted or ()))
    if role != "tool" and not text.strip() and not sources and not calls:
        raise InvalidArguments(f"{where}.content: is empty")
    raw = message.get("raw")
    if raw is not None:
        _check_raw(raw, f"{where}.raw")
    call_id = _text(message.get("id"), f"{where}.id") if role == "tool" else ""
    return Turn(role=role, text=text, sources=sources, calls=calls, call_id=call_id, raw=raw)


def _content(content: Any, role: Role, where: str) -> tuple[str, tuple[Source, ...]]:
    if content is None and role == "assistant":  # it only wanted tools called
        return "", ()
    if isinstance(content, str):
        return content, ()
    if not _is_list(content):
        raise InvalidArguments(f"{where}: text, or a list of parts, not {type(content).__name__}")
    texts: list[str] = []
    sources: list[Source] = []
    for place, part in enumerate(content):
        read = _part(part, f"{where}[{place}]")
        if isinstance(read, str):
            texts.append(read)
        elif role != "user":
            raise InvalidArguments(f"{where}[{place}]: only a user's message carries an {read.kind}")
        else:
            sources.append(read)
    return "\n\n".join(texts), tuple(sources)


def _part(part: Any, where: str) -> str | Source:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        _refuse_unknown(part, {"type", "text"}, where)
        if not isinstance(part.get("text"), str):
            raise InvalidArguments(f"{where}.text: text, not {type(part.get('text')).__name__}")
        return cast("str", part["text"])
    if kind not in _KINDS:
        raise InvalidArguments(f"{where}.type: text, {', '.join(_KINDS)}, not {kind!r}")
    _refuse_unknown(part, {"type", "source"}, where)
    return Source(kind, _text(part.get("source"), f"{where}.source"), f"{where}.source")


def _call(call: Any, where: str) -> ToolCall:
    if not isinstance(call, Mapping):
        raise InvalidArguments(f'{where}: an object {{"id", "name", "arguments"}}, not {type(call).__name__}')
    _refuse_unknown(call, _CALL, where)
    made = ToolCall(**{name: _text(call.get(name), f"{where}.{name}") for name in _CALL})
    try:
        given = msgspec.json.decode(made.arguments)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidArguments(f"{where}.arguments: are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise InvalidArguments(f"{where}.arguments: a JSON object as text, not {made.arguments:.40}")
    return made


def _check_raw(raw: Any, where: str) -> None:
    """It is of the form that answers have. Raises InvalidArguments."""
    said = "as the reply of that turn has it"
    if not isinstance(raw, Mapping) or raw.keys() != _RAW:
        raise InvalidArguments(f"{where}: an object {{{', '.join(sorted(_RAW))}}}, {said}")
    for name in ("provider", "model"):
        _text(raw[name], f"{where}.{name}")
    content = raw["content"]
    if isinstance(content, Mapping) and content.keys() == {"reasoning_details"}:  # of the protocol of chat
        content = content["reasoning_details"]
    if not _is_list(content) or not content or not all(isinstance(one, Mapping) for one in content):
        raise InvalidArguments(f"{where}.content: a list of objects, {said}")


def _refuse_unknown(given: Mapping[str, Any], known: Collection[str], where: str) -> None:
    if unknown := given.keys() - set(known):
        raise InvalidArguments(f"{where}: {min(map(str, unknown))!r} means nothing here; {', '.join(sorted(known))} do")


def _merged(turns: Sequence[Turn]) -> list[Turn]:
    """Neighbours of one role are one turn: most providers refuse two."""
    merged: list[Turn] = []
    for turn in turns:
        before = merged[-1] if merged else None
        if before is None or before.role != turn.role or turn.role == "tool":
            merged.append(turn)
            continue
        merged[-1] = replace(
            before,
            text="\n\n".join(text for text in (before.text, turn.text) if text),
            sources=before.sources + turn.sources,
            calls=before.calls + turn.calls,
            raw=None,  # it would be of one of them
        )
    return merged


def _check_order(turns: Sequence[Turn]) -> None:
    if turns[0].role != "user":
        raise InvalidArguments(f"messages: the first is of the user, not of the {turns[0].role}")
    if turns[-1].role == "assistant":
        raise InvalidArguments(
            "messages: the last is of the user, or a tool's; today's models do not go on with a beginning of theirs"
        )
    open_calls: set[str] = set()
    for turn in turns:
        if turn.role == "tool":
            if turn.call_id not in open_calls:
                raise InvalidArguments(f"messages: the tool's answer {turn.call_id!r} is to no call before it")
            open_calls.remove(turn.call_id)
        elif open_calls:
            break
        else:
            open_calls = {call.id for call in turn.calls}
    if open_calls:
        raise InvalidArguments(f"messages: the tool call {min(open_calls)!r} has no answer behind it")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidArguments(f"{where}: text that is not empty, not {value!r:.40}")
    return value
