"""Images as a task: made of a prompt, and of other images."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from fourlane.providers.ai import Account, Answer, Usage
from fourlane.providers.ai.media import ImageWish, check_image
from fourlane.providers.ai.media import image as make
from fourlane.storage.media import IMAGES
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.hopeless import as_rejects, models_for
from fourlane.tasks.ai.media.sources import check_sources, read_media
from fourlane.tasks.ai.models.names import IMAGE_MODEL
from fourlane.tasks.ai.money.prices import count_tokens
from fourlane.tasks.ai.options import check_text, several, speaking_for
from fourlane.tasks.ai.paid.paying import pay
from fourlane.tasks.ai.paid.reply import Reply
from fourlane.tasks.ai.paid.work import Work
from fourlane.tasks.ai.whose import whose
from fourlane.tasks.task import task

__all__ = ["image"]

_MOST_SOURCES: Final = 16
_MOST_BYTES: Final = 64 * 1024 * 1024
_SECONDS: Final = 300.0
# The most tokens of an image of 1024 x 1024, by its quality, and of one that is shown.
_TOKENS: Final = {"low": 300, "medium": 1_100, "high": 4_200, "auto": 4_200, "xhigh": 8_400, "max": 16_800}
_TOKENS_SHOWN: Final = 1_600
_SQUARE: Final = 1_024 * 1_024


@speaking_for("image")
def _wish(
    prompt: str,
    *,
    model: str = IMAGE_MODEL,
    size: str = "auto",
    quality: str = "auto",
    format: str = "png",
    background: str = "auto",
    n: int = 1,
    images: Sequence[str] | None = None,
    tenant: str | None = None,
    name: str | None = None,
) -> tuple[ImageWish, Sequence[str]]:
    """What is wished for, and the sources of images to edit. Raises InvalidArguments."""
    for what, value in {"size": size, "quality": quality, "format": format, "background": background}.items():
        check_text(what, value)
    sources = () if images is None else several("images", images)
    for place, source in enumerate(sources):
        check_text(f"images[{place}]", source)
    models = models_for("make images", model, {"prompt": prompt}, tenant=tenant, name=name)
    wish = ImageWish(prompt=prompt, size=size, quality=quality, format=format, background=background, n=n)
    for full in models:
        check_image(full, wish)
    check_sources(sources, tenant=tenant, most=_MOST_SOURCES)
    return wish, sources


def _check(*args: Any, **options: Any) -> None:
    _wish(*args, **options | {"tenant": whose(options.get("tenant"))})


@task(name="fourlane.ai.image", check=_check, service="ai", result_ttl_ms=86_400_000, timeout_ms=900_000)
async def image(
    prompt: str,
    *,
    model: str = IMAGE_MODEL,
    size: str = "auto",
    quality: str = "auto",
    format: str = "png",
    background: str = "auto",
    n: int = 1,
    images: Sequence[str] | None = None,
    tenant: str | None = None,
    name: str | None = None,
) -> Reply:
    """Make images; ``files`` of the reply has their references.

    Parameters:
      size: ``auto`` or ``1536x1024``; of Google's models also ``2K``, ``16:9`` or ``2K 16:9``.
      quality, background: of OpenAI's models: ``low`` to ``max``; ``transparent``, ``opaque``.
      format: ``png``, ``jpeg``, ``webp``.
      images: sources of images that are edited: URLs, storage references, paths.
      name: of the step; give one where a job makes several calls.
    """
    with as_rejects():
        tenant = whose(tenant)
        wish, sources = _wish(
            prompt,
            model=model,
            size=size,
            quality=quality,
            format=format,
            background=background,
            n=n,
            images=images,
            tenant=tenant,
            name=name,
        )
    shown: tuple[Any, ...] = ()

    async def ready() -> None:
        nonlocal shown
        shown = await read_media(sources, tenant=tenant, kinds=IMAGES, most_bytes=_MOST_BYTES)

    async def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Answer:
        return await make(account, model, replace(wish, images=shown), key=key)

    work = Work(
        operation="image",
        model=model,
        ask=ask,
        most=_most(wish, len(sources)),
        makes_files=True,
        ready=ready if sources else None,
        seconds=_SECONDS,
    )
    return await pay(configured(), work, name=name or "image", tenant=tenant)


def _most(wish: ImageWish, shown: int) -> Usage:
    pixels = re.fullmatch(r"(\d+)x(\d+)", wish.size)
    scale = max(1.5, int(pixels[1]) * int(pixels[2]) / _SQUARE) if pixels else 1.5
    made = int(wish.n * _TOKENS.get(wish.quality, 4_200) * scale)
    return Usage(
        input_tokens=count_tokens(wish.prompt) + shown * _TOKENS_SHOWN,
        input_image_tokens=shown * _TOKENS_SHOWN,
        output_tokens=made,
        output_image_tokens=made,
        images=wish.n,
        image=f"{wish.size} {wish.quality}",
    )
