"""AI calls as tasks: generate, analyze, translate, summarize, image, transcribe; and ``call`` for tasks of your own.

Each paid call

1. is refused at once where it can never succeed (unknown model, no key, too long a prompt, a budget of 0),
2. reserves what it may cost from the tenant's budget of the month,
3. goes through the provider's shared health (``fourlane.providers.health``), or to a fallback by rule,
4. writes its text to the job's output as it comes,
5. is a recorded step: a retry, a crash or a replay gets the recorded answer and does not pay again,
6. leaves a row in ``ai_operation_logs``, figures and a span, also when it failed.
"""

from fourlane.tasks.ai.asking import TextOptions
from fourlane.tasks.ai.budgets import spending
from fourlane.tasks.ai.calls import call
from fourlane.tasks.ai.config import MODELS, AiConfig, configure
from fourlane.tasks.ai.prices import Estimate, estimate, prices_source
from fourlane.tasks.ai.reply import Reply
from fourlane.tasks.ai.tasks import analyze, generate, image, summarize, transcribe, translate
from fourlane.tasks.ai.tools import ToolFunction, tool
from fourlane.tasks.ai.work import NotAccepted

__all__ = [
    "MODELS",
    "AiConfig",
    "Estimate",
    "NotAccepted",
    "Reply",
    "TextOptions",
    "ToolFunction",
    "analyze",
    "call",
    "configure",
    "estimate",
    "generate",
    "image",
    "prices_source",
    "spending",
    "summarize",
    "tool",
    "transcribe",
    "translate",
]
