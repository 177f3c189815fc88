"""AI calls as tasks: generate, analyze, translate, summarize, image, transcribe, speak, embed, moderate.

In an async task of your own ``await ai.embed(…)`` makes the call there, as a step of that job; ``call`` asks a model.

Each paid call

1. is refused at once where it can never succeed (unknown model, no key, too long a prompt, a budget of 0),
2. reserves what it may cost from the tenant's budget of the month,
3. goes through the provider's shared health (``fourlane.providers.health``), or to a fallback by rule,
4. writes its text to the job's output as it comes,
5. is a recorded step: a retry, a crash or a replay gets the recorded answer and does not pay again,
6. leaves a row in ``ai_operation_logs``, figures and a span, also when it failed.
"""

from fourlane.tasks.ai.calls import call
from fourlane.tasks.ai.config import AiConfig, configure
from fourlane.tasks.ai.media.embeddings import Embedded, embed, vectors
from fourlane.tasks.ai.media.images import image
from fourlane.tasks.ai.media.moderation import Moderated, moderate
from fourlane.tasks.ai.media.sound import speak, transcribe
from fourlane.tasks.ai.media.sources import read_file
from fourlane.tasks.ai.models.names import MODELS
from fourlane.tasks.ai.money.budget_rules import Budget
from fourlane.tasks.ai.money.prices import Estimate, estimate, prices_source
from fourlane.tasks.ai.money.spent import spending
from fourlane.tasks.ai.paid.reply import Reply
from fourlane.tasks.ai.paid.work import NotAccepted
from fourlane.tasks.ai.tasks import analyze, generate, summarize, translate
from fourlane.tasks.ai.text.asking import TextOptions
from fourlane.tasks.ai.text.tools import ToolFunction, tool

__all__ = [
    "MODELS",
    "AiConfig",
    "Budget",
    "Embedded",
    "Estimate",
    "Moderated",
    "NotAccepted",
    "Reply",
    "TextOptions",
    "ToolFunction",
    "analyze",
    "call",
    "configure",
    "embed",
    "estimate",
    "generate",
    "image",
    "moderate",
    "prices_source",
    "read_file",
    "speak",
    "spending",
    "summarize",
    "tool",
    "transcribe",
    "translate",
    "vectors",
]
