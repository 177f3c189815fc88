"""The platform's own AI tasks."""

from __future__ import annotations

from typing import Any, Final, Unpack

from fourlane.errors import InvalidArguments
from fourlane.tasks.ai.calls import call
from fourlane.tasks.ai.checks import check_text
from fourlane.tasks.ai.long.summaries import summarize_text
from fourlane.tasks.ai.long.translations import translate_text, translated_at_once
from fourlane.tasks.ai.long.work import TextWork
from fourlane.tasks.ai.options import speaking_for
from fourlane.tasks.ai.paid.reply import Reply
from fourlane.tasks.ai.text.asking import TextOptions
from fourlane.tasks.task import task

__all__ = ["analyze", "generate", "summarize", "translate"]

_OPTIONS: Final[dict[str, Any]] = {"service": "ai", "result_ttl_ms": 86_400_000, "timeout_ms": 600_000}
_LONG: Final = _OPTIONS | {"timeout_ms": 3_600_000}


@task(name="fourlane.ai.generate", check=check_text, **_OPTIONS)
async def generate(prompt: str | None = None, **options: Unpack[TextOptions]) -> Reply:
    """Answer a prompt or a conversation. The text also goes to the job's output as it comes (``job.stream()``).

    Parameters:
      **options: ``TextOptions``.
    """
    return await call("generate", prompt, **options)


_ANALYSIS: Final = TextWork(
    "analyze", "Analyze the text that the user gives. Name its subject, tone, main claims and open questions."
)


@speaking_for("analyze")
def _check_analysis(text: str | None = None, *, source: str | None = None, **options: Any) -> None:
    _ANALYSIS.check(text, source, options)


@task(name="fourlane.ai.analyze", check=_check_analysis, **_OPTIONS)
async def analyze(text: str | None = None, *, source: str | None = None, **options: Unpack[TextOptions]) -> Reply:
    """Analyze a text; ``system`` says what else to look at.

    Parameters:
      source: where the text is, in place of it: a URL, a storage reference, a path.
      **options: ``TextOptions``.
    """
    return await _ANALYSIS.do(text, source, options)


def _translation(to: Any) -> TextWork:
    if not isinstance(to, str) or not to.strip():
        raise InvalidArguments(f"to: the name or code of a language, not {to!r:.40}")
    told = f"Translate what the user gives into {to}. Answer with the translation alone."
    return TextWork("translate", told, 4_096, translate_text, translated_at_once)


@speaking_for("translate")
def _check_translation(text: str | None = None, *, to: str, source: str | None = None, **options: Any) -> None:
    _translation(to).check(text, source, options)


@task(name="fourlane.ai.translate", check=_check_translation, **_LONG)
async def translate(
    text: str | None = None, *, to: str, source: str | None = None, **options: Unpack[TextOptions]
) -> Reply:
    """Translate a text into a language; one that is too long for an answer in parts, each a step.

    Parameters:
      to: the language's name or code.
      source: where the text is, in place of it: a URL, a storage reference, a path.
      **options: ``TextOptions``; ``max_tokens`` is of each part.
    """
    return await _translation(to).do(text, source, options)


def _summary(words: Any) -> TextWork:
    if not isinstance(words, int) or isinstance(words, bool) or words < 1:
        raise InvalidArguments(f"words: a number of 1 or more, not {words!r:.40}")

    def in_parts(asked: Any, text: str) -> Any:
        return summarize_text(asked, text, words)

    return TextWork("summarize", f"Summarize what the user gives in at most {words} words.", in_parts=in_parts)


@speaking_for("summarize")
def _check_summary(text: str | None = None, *, words: int = 100, source: str | None = None, **options: Any) -> None:
    _summary(words).check(text, source, options)


@task(name="fourlane.ai.summarize", check=_check_summary, **_LONG)
async def summarize(
    text: str | None = None, *, words: int = 100, source: str | None = None, **options: Unpack[TextOptions]
) -> Reply:
    """Summarize a text in about so many words; one over the model's window by its parts, each a step.

    Parameters:
      source: where the text is, in place of it: a URL, a storage reference, a path.
      **options: ``TextOptions``.
    """
    return await _summary(words).do(text, source, options)
