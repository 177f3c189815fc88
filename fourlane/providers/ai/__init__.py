"""AI providers, called by their own SDKs' clients: one question, one answer in one form, whoever is asked.

``question`` and ``answer`` are that form, ``ask`` sends one and streams the other; an adaptor for each protocol
(``openai_responses``, ``openai_chat``, ``anthropic``, ``google``) translates. ``families`` has what models take,
``refusals`` learns what they refuse, ``outcomes`` has how answers end. ``media`` has what is not a conversation. Jobs,
budgets and health are not known here.
"""

from fourlane.providers.ai.accounts import BASE_URLS, LIKE_OPENAI, Account, aclose
from fourlane.providers.ai.answer import Answer, Citation, CutStream, FailedAnswer, Outcome
from fourlane.providers.ai.ask import ask
from fourlane.providers.ai.errors import EmptyAccount, Unsendable, is_fault_of_ours, read_error, told, was_taken
from fourlane.providers.ai.families import Family, family
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
    "EmptyAccount",
    "FailedAnswer",
    "Family",
    "Media",
    "Outcome",
    "Question",
    "Tool",
    "ToolCall",
    "Unsendable",
    "Usage",
    "aclose",
    "ask",
    "family",
    "is_fault_of_ours",
    "read_error",
    "told",
    "was_taken",
]
