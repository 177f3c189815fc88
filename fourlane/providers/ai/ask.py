"""Ask a model, streamed, whichever provider it is of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Final

from fourlane.providers.ai import anthropic, google, openai_chat, openai_responses
from fourlane.providers.ai.accounts import Account, Protocol
from fourlane.providers.ai.answer import Answer, CutStream
from fourlane.providers.ai.errors import told
from fourlane.providers.ai.pieces import Gathered, Piece
from fourlane.providers.ai.question import Question

__all__ = ["ask"]

_STREAMS: Final[Mapping[Protocol, Callable[[Account, Question], AsyncGenerator[Piece, None]]]] = {
    "responses": openai_responses.stream,
    "chat": openai_chat.stream,
    "anthropic": anthropic.stream,
    "google": google.stream,
}


async def ask(account: Account, question: Question, on_piece: Callable[[str], None]) -> Answer:
    """Ask a model.

    Parameters:
      on_piece: gets the text of each piece of the answer as it comes, empty where it carries none, as a thought does;
        each is a sign of life.

    Raises:
      CutStream: the answer broke off. FailedAnswer: the provider said amid it that it failed.
      Unsendable, EmptyAccount.
      whatever the SDK raises; all with what had come as ``answer``. ``read_error`` tells what it means.
    """
    gathered = Gathered()
    try:
        async with aclosing(_STREAMS[account.speaks](account, question)) as pieces:
            async for piece in pieces:
                text = gathered.add(piece)
                if text or piece.alive:
                    on_piece(text)
        if rest := gathered.rest():
            on_piece(rest)
    except BaseException as error:  # one that is cancelled too: what had come is paid for
        fault = told(error, account.provider)
        fault.answer = gathered.answer()  # type: ignore[attr-defined]
        if fault is error:
            raise
        raise fault from None
    answer = gathered.answer()
    if not answer.finish:
        raise CutStream(f"{account.provider}/{question.model}: the answer broke off", answer)
    return answer
