"""Secrets in texts: only where one may begin is looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fourlane.redact.form import Form
from fourlane.redact.known import without_known

__all__ = ["redact_text", "without_secrets"]

_LONGEST: Final = 32_768


def redact_text(text: str) -> str:
    """The text without secrets, and without what has the form of an address, a card or a phone number."""
    from fourlane.redact.personal import without_personal

    return without_personal(without_secrets(text))


def without_secrets(text: str) -> str:
    """The text without what is known to be a secret, or has the form of one."""
    # Made when the first text is looked at: a program that only enqueues has none.
    from fourlane.redact.forms import forms

    if len(text) > _LONGEST:
        text = text[:_LONGEST] + f"… ({len(text):,} characters)"
    text = without_known(text)
    lowered = _lowered(text)
    for form in forms():
        places = form.places(text, lowered)
        if places and (shown := _without(form, text, places)) != text:
            text, lowered = shown, _lowered(shown)
    return text


def _without(form: Form, text: str, places: Iterable[int]) -> str:
    parts, end = [], 0
    for place in places:
        found = form.pattern.match(text, place) if place >= end else None
        if found and (shown := form.show(found)) != found[0]:
            parts += [text[end : found.start()], shown]
            end = found.end()
    return "".join([*parts, text[end:]])


def _lowered(text: str) -> str:
    """In small letters, each where it was: there are letters that become two."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
