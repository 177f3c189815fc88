"""Who is told: what is told here goes on to all observers that were added, and costs nothing where there are none."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeAlias

from fourlane.telling.observer import Observer, Span
from fourlane.telling.seldom import AtMostOnce

__all__ = ["Telling", "tell"]

log = logging.getLogger("fourlane.observe")

Hear: TypeAlias = Any
"""A method of an observer."""
Complain: TypeAlias = Callable[[Hear], None]
PassedOn: TypeAlias = Callable[..., Any]

_LINE_SECONDS: Final = 60.0


class Telling(Observer):
    """Passes on what it is told. A method that somebody hears is hidden by an attribute that calls all who do."""

    def __init__(self) -> None:
        self.heard: frozenset[str] = frozenset()
        """What somebody hears of."""
        self._observers: tuple[Observer, ...] = ()
        self._changing = threading.Lock()
        self._gates: dict[str, AtMostOnce] = {}

    def add(self, observer: Observer) -> None:
        """Tell it from now on."""
        with self._changing:
            self._bind((*self._observers, observer))

    def remove(self, observer: Observer) -> None:
        """Tell it no more."""
        with self._changing:
            self._bind(tuple(one for one in self._observers if one is not observer))

    def _bind(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        heard: set[str] = set()
        for name in _TOLD:
            hearing = [getattr(observer, name) for observer in observers if _overrides(type(observer), name)]
            if hearing:
                heard.add(name)
                vars(self)[name] = _PASSED_ON.get(name, _to_each)(hearing, self._complain)
            else:
                vars(self).pop(name, None)
        self.heard = frozenset(heard)

    def _complain(self, hear: Hear) -> None:
        """Of the error that is being handled. A program's own filter or handler of log lines may raise too."""
        name = f"{type(hear.__self__).__qualname__}.{hear.__name__}"
        if self._gates.setdefault(name, AtMostOnce(_LINE_SECONDS)).passes():
            try:
                log.warning("%s failed; what it was told of goes on", name, exc_info=True)
            except Exception:
                return  # nothing is left to tell it with


_TOLD: Final = [name for name in vars(Observer) if not name.startswith("_")]


def _overrides(kind: type[Observer], name: str) -> bool:
    return getattr(kind, name) is not getattr(Observer, name)


# How each is passed on --------------------------------------------------------------------------------------------


def _to_each(hearing: Sequence[Hear], complain: Complain) -> PassedOn:
    def told(*args: Any, **kwargs: Any) -> None:
        for hear in hearing:
            try:
                hear(*args, **kwargs)
            except Exception:
                complain(hear)

    return told


def _earliest(hearing: Sequence[Hear], complain: Complain) -> PassedOn:
    def told(now: float) -> float | None:
        return min((moment for moment in _answers(hearing, complain, now) if moment is not None), default=None)

    return told


def _first_known(hearing: Sequence[Hear], complain: Complain) -> PassedOn:
    def told() -> tuple[str, str]:
        return next((found for found in _answers(hearing, complain) if found[0]), ("", ""))

    return told


def _answers(hearing: Sequence[Hear], complain: Complain, *args: Any) -> list[Any]:
    found = []
    for hear in hearing:
        try:
            found.append(hear(*args))
        except Exception:
            complain(hear)
    return found


def _along(hearing: Sequence[Hear], complain: Complain) -> PassedOn:
    def merged(given: list[Mapping[str, str]]) -> Mapping[str, str]:
        return {name: value for options in given for name, value in options.items()}

    def checked(given: Any) -> Any:
        if not isinstance(given, Mapping) or not all(isinstance(text, str) for pair in given.items() for text in pair):
            raise TypeError(f"what goes along is a mapping of texts, not {given!r}")
        return given

    def told(*args: Any, **kwargs: Any) -> _Around:
        return _Around([(hear, partial(hear, *args, **kwargs)) for hear in hearing], checked, merged, complain)

    return told


def _spans(hearing: Sequence[Hear], complain: Complain) -> PassedOn:
    def told(*args: Any, **kwargs: Any) -> _Around:
        makers = [(hear, partial(hear, *args, **kwargs)) for hear in hearing]
        return _Around(makers, _checked_span, lambda spans: _SpanOfAll(spans, complain), complain)

    return told


def _checked_span(given: Any) -> Any:
    if not isinstance(given, Span):
        raise TypeError(f"what is entered gives a Span, not {given!r}")
    return given


class _SpanOfAll(Span):
    """What is said of it goes to each."""

    def __init__(self, spans: list[Span], complain: Complain) -> None:
        self.say = _to_each([span.say for span in spans], complain)  # type: ignore[method-assign]
        self.fail = _to_each([span.fail for span in spans], complain)  # type: ignore[method-assign]


class _Around:
    """What all who hear enter around something, as one. What fails in it does not reach what is done inside."""

    def __init__(
        self,
        makers: Sequence[tuple[Hear, Callable[[], AbstractContextManager[Any]]]],
        check: Callable[[Any], Any],
        join: Callable[[list[Any]], Any],
        complain: Complain,
    ) -> None:
        self._makers = makers
        self._check = check
        self._join = join
        self._complain = complain
        self._entered: list[tuple[Hear, AbstractContextManager[Any]]] = []

    def __enter__(self) -> Any:
        given = []
        for hear, make in self._makers:
            try:
                manager = make()
                entered = manager.__enter__()
                self._entered.append((hear, manager))
                given.append(self._check(entered))
            except Exception:
                self._complain(hear)
        return self._join(given)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._entered:
            hear, manager = self._entered.pop()
            try:
                manager.__exit__(kind, error, trace)
            except Exception as raised:
                if raised is not error:
                    self._complain(hear)


_PASSED_ON: Final = {"sending": _along, "span": _spans, "trace_context": _first_known, "resting": _earliest}
"""The others go to each."""

tell: Final = Telling()
"""This process's."""
