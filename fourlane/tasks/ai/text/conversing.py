"""A conversation with a model: each of its turns is a paid step, and so is each tool that it wants called."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from fourlane.providers import ai as providers
from fourlane.providers.ai import Account, Answer, ChatMessage, ToolCall, Usage
from fourlane.providers.ai.batches import request_of
from fourlane.storage.media import AUDIO, DOCUMENTS, IMAGES, TEXTS
from fourlane.tasks.ai.checks import check_window
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.hopeless import as_rejects
from fourlane.tasks.ai.media.sources import read_media
from fourlane.tasks.ai.money.prices import count_tokens
from fourlane.tasks.ai.paid.paying import pay
from fourlane.tasks.ai.paid.reply import Reply, summed
from fourlane.tasks.ai.paid.work import SAYS, NotAccepted, Work
from fourlane.tasks.ai.text.asking import Asking
from fourlane.tasks.ai.text.messages import messages_of, sources_of
from fourlane.tasks.ai.text.tools import offered
from fourlane.tasks.steps import step

__all__ = ["READABLE", "Conversation"]

log = logging.getLogger("fourlane.ai")

READABLE: Final = (*IMAGES, *AUDIO, *TEXTS, *DOCUMENTS)
"""The media types of what may go to a model."""
_MOST_BYTES: Final = 20 << 20  # of all that goes with one question: what the strictest provider takes
_PLAIN_ID: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)


class Conversation:
    """One conversation: what was asked, and what has been said since."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._begun: tuple[ChatMessage, ...] | None = None
        self._since: list[ChatMessage] = []
        self._tokens = asking.tokens
        self._functions = {one.name: one.function for one in asking.tools}

    async def answer(self, name: str) -> Reply:
        """What the model says in the end, with what all rounds took.

        Parameters:
          name: of its steps: ``ai:NAME``; with tools ``ai:NAME:ROUND`` and ``ai:NAME:ROUND:tool:ID``.

        Raises:
          NotAccepted: an answer is not accepted, or there are too many rounds.
          Reject: a tool is not declared in this process.
          as ``pay``, and what tools raise by their choice.
        """
        offered(self._asking.tools)  # also where the first rounds are recorded: by a worker that knew them
        if not self._asking.tools:
            return await self._say(name)
        replies: list[Reply] = []
        for number in range(1, self._asking.max_rounds + 1):
            reply = await self._say(f"{name}:{number}")
            replies.append(reply)
            if not self._runs(reply):
                return summed(replies)
            if number < self._asking.max_rounds:
                calls = [ToolCall(**call) for call in reply["tool_calls"]]
                self._hear(await self._call_all(calls, f"{name}:{number}"))
        raise NotAccepted(f"{reply['model']} still wants tools called after {number} rounds", summed(replies))

    def tell(self, text: str) -> None:
        """The user says something more."""
        self._hear([ChatMessage(role="user", text=text)])

    def _hear(self, messages: Sequence[ChatMessage]) -> None:
        self._since += messages
        said = (text for message in messages for text in (message.text, *(call.arguments for call in message.calls)))
        self._tokens += count_tokens(*said)

    async def _say(self, name: str) -> Reply:
        asking, tokens = self._asking, self._tokens
        messages: tuple[ChatMessage, ...] = ()

        async def ready() -> None:
            nonlocal messages
            messages = await self._messages_for(tokens)

        def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Awaitable[Answer]:
            return providers.ask(account, asking.question(messages, model, key), heard)

        def request(account: Account, model: str, key: str) -> Mapping[str, Any]:
            return request_of(account, asking.question(messages, model, key))

        work = Work(
            operation=asking.operation,
            model=asking.model,
            ask=ask,
            most=Usage(input_tokens=tokens, output_tokens=asking.max_tokens),
            accept=asking.accept,
            silent=asking.silent,
            inline_bytes=asking.inline_bytes,
            ready=ready,
            request=request if asking.batch else None,
        )
        reply = await pay(configured(), work, name=name, tenant=self._asking.tenant)
        if reply["outcome"] == "truncated":
            log.warning("%s %s, at %d tokens", reply["model"], SAYS["truncated"], reply["output_tokens"])
        calls = tuple(ToolCall(**call) for call in reply["tool_calls"])
        self._hear([ChatMessage(role="assistant", text=reply["text"], calls=calls, raw=reply["raw"])])
        return reply

    async def _messages_for(self, tokens: int) -> tuple[ChatMessage, ...]:
        """All that is asked now. Raises Reject: it can never succeed; and as ``read_media``."""
        with as_rejects():
            check_window(configured().living(self._asking.model)[0], tokens)
        if self._asking.wanted is not None:
            self._asking.wanted.check_ready()
        if self._begun is None:
            sources = [source.source for source in sources_of(self._asking.turns)]
            read = read_media(sources, tenant=self._asking.tenant, kinds=READABLE, most_bytes=_MOST_BYTES)
            self._begun = messages_of(self._asking.turns, await read)
        return (*self._begun, *self._since)

    def _runs(self, reply: Reply) -> bool:
        """Whether the tools that it wants called are called here: all of them, or none."""
        if not self._asking.run_tools or reply["outcome"] != "tool_calls":
            return False
        # A name that nobody offered is made up: the model is told so.
        names = {call["name"] for call in reply["tool_calls"]}
        return all(self._functions[name] is not None for name in names & self._functions.keys())

    async def _call_all(self, calls: Sequence[ToolCall], name: str) -> list[ChatMessage]:
        """Call tools, all at once, each as a step. Raises what one raises, when all have ended."""
        steps = _step_names(calls)
        called = (self._call(call, f"ai:{name}:tool:{one}") for call, one in zip(calls, steps, strict=True))
        answers = await asyncio.gather(*called, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        texts = [answer for answer in answers if isinstance(answer, str)]
        return [ChatMessage(role="tool", text=text, call_id=call.id) for call, text in zip(calls, texts, strict=True)]

    async def _call(self, call: ToolCall, name: str) -> str:
        function = self._functions.get(call.name)
        if function is None:
            return f"error: there is no tool {call.name}; there are {', '.join(self._functions)}"
        return await step.run(name, function.run, call.arguments)


def _step_names(calls: Sequence[ToolCall]) -> list[str]:
    """A name for each call of a round: its id, where that is a fit and unique one."""
    ids = [call.id for call in calls]
    return [
        one if _PLAIN_ID.fullmatch(one) and ids.count(one) == 1 else f"#{place}" for place, one in enumerate(ids, 1)
    ]
