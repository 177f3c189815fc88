"""Templates: files of Jinja2 in one folder.

``welcome.subject.txt``, ``welcome.txt`` and ``welcome.html`` are the template ``welcome``; only ``welcome.txt`` is
needed. A language's own have its name in them: ``welcome.de.txt``. All files of one message are of one language: the
most exact one that has a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unicodedata import category

from fourlane.errors import SettingsError
from fourlane.tasks.notifications.notification import InvalidNotification, Notification

__all__ = ["Templates", "Words"]

_SUBJECT_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Words:
    """What a message says."""

    subject: str
    text: str
    html: str


class Templates:
    """The templates of a folder. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        try:
            import jinja2
            import jinja2.sandbox
        except ModuleNotFoundError:
            raise SettingsError("templates need the package jinja2; pip install 'fourlane[notifications]'") from None
        self._folder = folder
        self._error = jinja2.TemplateError
        self._missing = jinja2.TemplateNotFound
        # A sandbox: templates may come from people who write texts, and data from anybody.
        self._jinja = jinja2.sandbox.SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(folder),
            undefined=jinja2.StrictUndefined,
            autoescape=lambda name: name is not None and name.endswith(".html"),
            keep_trailing_newline=False,
        )

    def words(self, notification: Notification, given: Mapping[str, Any]) -> Words:
        """The words of a notification.

        Parameters:
          given: variables beside its data, such as ``unsubscribe_url``.

        Raises InvalidNotification: there is no such template, a variable is missing, or it cannot be read.
        """
        if not notification.template:
            return Words(_one_line(notification.subject), notification.text, notification.html)
        name = notification.template
        values = {"locale": notification.locale, **notification.data, **given}
        for stem in _stems(name, notification.locale):
            text = self._render(f"{stem}.txt", values)
            if text is not None:
                subject = self._render(f"{stem}.subject.txt", values) or ""
                return Words(_one_line(subject), text, self._render(f"{stem}.html", values) or "")
        raise InvalidNotification(f"there is no template {name!r}: {name}.txt is not in {self._folder}")

    def _render(self, file: str, values: Mapping[str, Any]) -> str | None:
        try:
            template = self._jinja.get_template(file)
        except self._missing as error:
            if error.name == file:
                return None
            raise InvalidNotification(f"template {file}: it needs {error.name}, which is not there") from None
        except (self._error, UnicodeDecodeError) as error:
            raise InvalidNotification(f"template {file}: {_said(error)}") from None
        try:
            return template.render(values)
        except Exception as error:  # whatever the template does with its data
            raise InvalidNotification(f"template {file}: {_said(error)}") from None


def _said(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    return f"{' '.join(str(error).split())}{f' (line {line})' if line else ''}" or type(error).__name__


def _stems(name: str, locale: str) -> Iterator[str]:
    """``welcome.de-AT``, ``welcome.de``, ``welcome``."""
    parts = locale.replace("_", "-").split("-") if locale else []
    for length in range(len(parts), 0, -1):
        yield f"{name}.{'-'.join(parts[:length])}"
    yield name


def _one_line(text: str) -> str:
    """As a subject: of a length that a header may have, without signs that nobody can see."""
    return "".join(sign for sign in " ".join(text.split()) if category(sign) != "Cc")[:_SUBJECT_CHARACTERS]
