"""What a call of a text model gives: a conversation's end, and where a schema is wanted, an answer that keeps it."""

from __future__ import annotations

from fourlane.errors import InvalidArguments, Reject
from fourlane.tasks.ai.asking import Asking
from fourlane.tasks.ai.checks import check_asking
from fourlane.tasks.ai.config import AiConfig, configured
from fourlane.tasks.ai.conversing import Conversation
from fourlane.tasks.ai.reply import Reply, summed
from fourlane.tasks.ai.structured import Misfit, Wanted, corrected
from fourlane.tasks.ai.work import NotAccepted

__all__ = ["answer", "refuse_hopeless"]


async def answer(asked: Asking) -> Reply:
    """The answer, as steps of the job that runs here. Raises as ``call``."""
    if asked.wanted is None:
        return await Conversation(asked).answer(asked.name)
    return await _keeping(asked, asked.wanted)


def refuse_hopeless(asked: Asking) -> None:
    """Raises Reject: in a job nobody is there any more to put the arguments right."""
    try:
        check_asking(asked)
    except InvalidArguments as error:
        raise Reject(str(error)) from None


async def _keeping(asked: Asking, wanted: Wanted) -> Reply:
    """An answer that keeps the schema: the first, or once repaired, or a fallback's. Raises as ``call``."""
    config = configured()
    models = [asked.model, *config.fallbacks.get(asked.model, ())]
    paid: list[Reply] = []
    name = asked.name
    while models:
        conversation = Conversation(asked)
        for step in (name, f"{name}:repair"):
            reply = await conversation.answer(step, models[0])
            paid.append(reply)
            if reply["outcome"] != "ok":  # cut, or it wants tools called: not the whole, so nothing to be read
                return summed(paid)
            try:
                return {**summed(paid), "data": wanted.read(reply["text"])}
            except Misfit as misfit:
                faults = str(misfit)
                conversation.tell(corrected(faults))
        models = _behind(config, models, reply["model"])
        name = f"{asked.name}:fallback-{len(paid) // 2}"
    faults = " | ".join(faults.splitlines())
    raise NotAccepted(f"{reply['model']} gave no answer that keeps the schema: {faults}", summed(paid))


def _behind(config: AiConfig, models: list[str], full: str) -> list[str]:
    """The models that are left to be asked after one that answered."""
    for place, model in enumerate(models):
        if config.resolve(model) == full:
            return models[place + 1 :]
    return models[1:]
