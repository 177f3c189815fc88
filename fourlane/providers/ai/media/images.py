"""Images: made of a prompt, and of other images."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Answer, CutStream
from fourlane.providers.ai.counts import Counts
from fourlane.providers.ai.errors import status_of
from fourlane.providers.ai.inputs import data_url
from fourlane.providers.ai.media.faults import said_clearly
from fourlane.providers.ai.media.gemini import made
from fourlane.providers.ai.media.wishes import ImageWish, google_size
from fourlane.providers.ai.openai_chat import usage_of
from fourlane.providers.ai.question import Media, header_of
from fourlane.providers.ai.usage import NOTHING, Usage

__all__ = ["image"]

# The codes with which OpenAI holds a prompt or an image back, at status 400; nothing is billed.
_BLOCKED: Final = frozenset({"moderation_blocked", "content_policy_violation", "image_content_policy_violation"})


async def image(account: Account, model: str, wish: ImageWish, *, key: str) -> Answer:
    """Make images; they are the answer's media."""
    with said_clearly(account):
        return await _made(account, model, wish, key)


async def _made(account: Account, model: str, wish: ImageWish, key: str) -> Answer:
    if account.provider == "google":
        config = {"response_modalities": ["TEXT", "IMAGE"]} | _image_config(wish)
        answer = await made(account, model, _parts(wish), config)
        return replace(answer, usage=replace(answer.usage, images=len(answer.media), image=f"{wish.size} auto"))
    if account.provider == "openrouter":
        return await _by_chat(account, model, wish, key)
    return await _by_images(account, model, wish, key)


def _image_config(wish: ImageWish) -> dict[str, Any]:
    size = google_size(wish.size)
    return {"image_config": size} if size else {}


def _parts(wish: ImageWish) -> list[dict[str, Any]]:
    shown = [{"inline_data": {"mime_type": one.media_type, "data": one.data}} for one in wish.images]
    return [*shown, {"text": wish.prompt}]


# OpenAI -----------------------------------------------------------------------------------------------------------


async def _by_images(account: Account, model: str, wish: ImageWish, key: str) -> Answer:
    api = client(account).images
    given: dict[str, Any] = {"model": model, "prompt": wish.prompt, "n": wish.n, "extra_headers": header_of(key)}
    for name, value, usual in (
        ("size", wish.size, "auto"),
        ("quality", wish.quality, "auto"),
        ("background", wish.background, "auto"),
        ("output_format", wish.format, "png"),
    ):
        if value != usual:
            given[name] = value
    try:
        if wish.images:
            shown = [(one.name or "image", one.data, one.media_type) for one in wish.images]
            drawn = await api.edit(image=shown, **given)
        else:
            drawn = await api.generate(**given)
    except Exception as error:
        code = getattr(error, "code", None)
        if status_of(error) == 400 and code in _BLOCKED:
            return Answer(outcome="blocked", finish=str(code), usage=Usage(billed_usd=Decimal(0)))
        raise
    media = tuple(
        _decoded(one.b64_json, f"image/{drawn.output_format or wish.format}")
        for one in drawn.data or ()
        if one.b64_json
    )
    links = [one.url for one in drawn.data or () if one.url]
    usage = _usage_of(drawn, len(media) + len(links), wish)
    outcome = "ok" if media or links else "empty"
    return Answer(outcome=outcome, finish="stop", text="\n".join(links), media=media, usage=usage)  # type: ignore[arg-type]


def _usage_of(drawn: Any, images: int, wish: ImageWish) -> Usage:
    kind = f"{drawn.size or wish.size} {drawn.quality or wish.quality}"
    told = drawn.usage
    if told is None:
        return Usage(images=images, image=kind, told=False)
    said = Counts(told)
    wrote, cost = said.part("output_tokens_details"), said.billed()
    read, written = said.of("input_tokens"), said.of("output_tokens")
    return Usage(
        input_tokens=read,
        input_image_tokens=said.part("input_tokens_details").of("image_tokens"),
        output_tokens=written,
        # Without details all that it wrote are images.
        output_image_tokens=wrote.of("image_tokens") if wrote else written,
        images=images,
        image=kind,
        billed_usd=cost,
        told=bool(read or written or cost is not None),
    )


# OpenRouter -------------------------------------------------------------------------------------------------------


async def _by_chat(account: Account, model: str, wish: ImageWish, key: str) -> Answer:
    given = [{"type": "image_url", "image_url": {"url": data_url(one)}} for one in wish.images]
    said = await client(account).chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": [*given, {"type": "text", "text": wish.prompt}]}],
        extra_body={"modalities": ["image", "text"], "usage": {"include": True}} | _image_config(wish),
        extra_headers=header_of(key),
    )
    choice = said.choices[0] if said.choices else None
    if choice is None:
        raise CutStream(f"{account.provider}/{model}: the answer holds nothing", Answer())
    shown = [(one.get("image_url") or {}).get("url") for one in getattr(choice.message, "images", None) or ()]
    urls = [url for url in shown if url]
    media = tuple(_of_data_url(url) for url in urls if url.startswith("data:"))
    links = [url for url in urls if not url.startswith("data:")]
    usage = NOTHING
    if said.usage is not None:
        usage = replace(usage_of(said.usage.model_dump()), images=len(urls), image=f"{wish.size} auto")
    finish = choice.finish_reason or "stop"
    outcome = "ok" if urls else "blocked" if finish == "content_filter" else "empty"
    return Answer(outcome=outcome, finish=finish, text="\n".join(links), media=media, usage=usage)  # type: ignore[arg-type]


def _of_data_url(url: str) -> Media:
    head, _, text = url.partition(",")
    return _decoded(text, head.removeprefix("data:").partition(";")[0])


def _decoded(text: str, media_type: str) -> Media:
    try:
        return Media(media_type=media_type, data=base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise CutStream(f"an image that came is no base64: {error}", Answer()) from None
