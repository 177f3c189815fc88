"""What a call of a text model gives: a conversation's end, and where a schema is wanted, an answer that keeps it."""

from __future__ import annotations

from dataclasses import replace

from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.paid.reply import Reply, summed
from fourlane.tasks.ai.paid.work import NotAccepted
from fourlane.tasks.ai.text.asking import Asking
from fourlane.tasks.ai.text.conversing import Conversation
from fourlane.tasks.ai.text.structured import Misfit, Wanted, corrected

__all__ = ["answer"]


async def answer(asked: Asking) -> Reply:
    """The answer, as steps of the job that runs here. Raises as ``call``."""
    if asked.wanted is None:
        return await Conversation(asked).answer(asked.name)
    return await _keeping(asked, asked.wanted)


async def _keeping(asked: Asking, wanted: Wanted) -> Reply:
    """An answer that keeps the schema: the first, or once repaired, or a fallback's. Raises as ``call``."""
    left = list(configured().living(asked.model))
    paid: list[Reply] = []
    name, model = asked.name, asked.model
    while True:
        conversation = Conversation(replace(asked, model=model))
        for step in (name, f"{name}:repair"):
            reply = await conversation.answer(step)
            paid.append(reply)
            if reply["outcome"] != "ok":  # cut, or it wants tools called: not the whole, so nothing to be read
                return summed(paid)
            try:
                return {**summed(paid), "data": wanted.read(reply["text"])}
            except Misfit as misfit:
                faults = str(misfit)
                conversation.tell(corrected(faults))
        left = left[left.index(reply["model"]) + 1 :] if reply["model"] in left else left[1:]
        if not left:
            faults = " | ".join(faults.splitlines())
            raise NotAccepted(f"{reply['model']} gave no answer that keeps the schema: {faults}", summed(paid))
        name, model = f"{asked.name}:fallback-{len(paid) // 2}", left[0]
