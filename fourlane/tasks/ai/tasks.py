"""The platform's own AI tasks."""

from __future__ import annotations

from typing import Any, Final

from fourlane.tasks.ai.calls import call
from fourlane.tasks.ai.checks import check_text
from fourlane.tasks.ai.reply import Reply
from fourlane.tasks.task import task

__all__ = ["analyze", "generate", "summarize", "translate"]

_OPTIONS: Final[dict[str, Any]] = {"service": "ai", "result_ttl_ms": 86_400_000, "timeout_ms": 600_000}


@task(name="fourlane.ai.generate", check=check_text, **_OPTIONS)
async def generate(
    prompt: str,
    *,
    model: str = "gpt-4o",
    system: str | None = None,
    max_tokens: int = 1_024,
    tenant: str | None = None,
) -> Reply:
    """Answer a prompt. The text also goes to the job's output as it comes (``job.stream()``).

    Parameters:
      model: a short name of ``MODELS``, or ``provider/model``.
      tenant: whose budget, by default the job's own tenant; an organization's id where rows shall belong to it.
    """
    return await call("generate", prompt, model=model, system=system, max_tokens=max_tokens, tenant=tenant)


_ANALYST: Final = "Analyze the text that the user gives. Name its subject, tone, main claims and open questions."


@task(name="fourlane.ai.analyze", check=check_text, **_OPTIONS)
async def analyze(
    text: str, *, model: str = "gpt-4o", system: str = _ANALYST, max_tokens: int = 1_024, tenant: str | None = None
) -> Reply:
    """Analyze a text; ``system`` says how."""
    return await call("analyze", text, model=model, system=system, max_tokens=max_tokens, tenant=tenant)


@task(name="fourlane.ai.translate", check=check_text, **_OPTIONS)
async def translate(
    text: str, *, to: str, model: str = "gpt-4o", max_tokens: int = 2_048, tenant: str | None = None
) -> Reply:
    """Translate a text into a language (``to``: its name or code)."""
    system = f"Translate what the user gives into {to}. Answer with the translation alone."
    return await call("translate", text, model=model, system=system, max_tokens=max_tokens, tenant=tenant)


@task(name="fourlane.ai.summarize", check=check_text, **_OPTIONS)
async def summarize(
    text: str, *, model: str = "gpt-4o", words: int = 100, max_tokens: int = 1_024, tenant: str | None = None
) -> Reply:
    """Summarize a text in about so many words."""
    system = f"Summarize what the user gives in at most {words} words."
    return await call("summarize", text, model=model, system=system, max_tokens=max_tokens, tenant=tenant)
