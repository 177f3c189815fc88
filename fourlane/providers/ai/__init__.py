"""AI providers, called through their own SDKs: one question, one answer in one form, whoever is asked.

``question`` and ``answer`` are that form, ``ask`` sends one and streams the other; an adaptor for each protocol
(``openai_chat``, ``anthropic``, ``google``) translates. ``media`` has what is not a conversation. Jobs, budgets and
health are not known here.
"""

from fourlane.providers.ai.accounts import BASE_URLS, LIKE_OPENAI, Account, aclose
from fourlane.providers.ai.answer import Answer, Citation, CutStream, Outcome
from fourlane.providers.ai.ask import ask
from fourlane.providers.ai.errors import is_fault_of_ours, read_error, was_taken
from fourlane.providers.ai.question import ChatMessage, Effort, Media, Question, Tool, ToolCall
from fourlane.providers.ai.usage import NOTHING, Usage

__all__ = [
    "BASE_URLS",
    "LIKE_OPENAI",
    "NOTHING",
    "Account",
    "Answer",
    "ChatMessage",
    "Citation",
    "CutStream",
    "Effort",
    "Media",
    "Outcome",
    "Question",
    "Tool",
    "ToolCall",
    "Usage",
    "aclose",
    "ask",
    "is_fault_of_ours",
    "read_error",
    "was_taken",
]
