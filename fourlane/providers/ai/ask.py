"""Ask a model, streamed, whichever provider it is of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fourlane.providers.ai import anthropic, google, openai_chat
from fourlane.providers.ai.accounts import Account
from fourlane.providers.ai.answer import Answer, CutStream
from fourlane.providers.ai.pieces import Gathered, Piece
from fourlane.providers.ai.question import Question

__all__ = ["ask"]


async def ask(account: Account, question: Question, on_piece: Callable[[str], None]) -> Answer:
    """Ask a model.

    Parameters:
      on_piece: gets the text of each piece as it comes, empty where it carries none; each is a sign of life.

    Raises:
      CutStream: the answer broke off.
      whatever the SDK raises, with what had come as its ``answer``; ``read_error`` tells what it means.
    """
    gathered = Gathered()
    try:
        async with aclosing(_speak(account, question)) as pieces:
            async for piece in pieces:
                on_piece(gathered.add(piece))
    except BaseException as error:  # one that is cancelled too: what had come is paid for
        error.answer = gathered.answer()  # type: ignore[attr-defined]
        raise
    answer = gathered.answer()
    if not answer.finish:
        raise CutStream(f"{account.provider}/{question.model}: the answer broke off", answer)
    return answer


def _speak(account: Account, question: Question) -> AsyncGenerator[Piece, None]:
    if account.provider == "anthropic":
        return anthropic.stream(account, question)
    if account.provider == "google":
        return google.stream(account, question)
    return openai_chat.stream(account, question)
