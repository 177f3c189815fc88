"""Answers that lack what an SDK's types say they have: gateways send such, and they are paid for all the same."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from examples.ai import media
from examples.ai.provider import Provider
from fourlane.providers.ai import Account, Answer, CutStream, Usage, aclose
from fourlane.providers.ai.media import HearWish, ImageWish, SpeechWish, embed, image, moderate, speak, transcribe
from fourlane.providers.ai.question import Media

PNG = base64.b64encode(media.png("a")).decode()
SOUND = Media(media_type="audio/wav", data=b"sound", name="a.wav")
COST, ONE = Decimal("0.00777"), Usage(images=1, image="auto auto")
BILLED = {"prompt_tokens": 3, "cost": 0.00777}
VECTOR = {"data": [{"embedding": [0.5]}]}
DRAWN = {"choices": [{"message": {"images": [{}, {"image_url": {"url": f"data:image/png;base64,{PNG}"}}]}}]}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


async def _embed(at: Account) -> Answer:
    return await embed(at, "m", ["a"], dimensions=None, key="k")


async def _image(at: Account) -> Answer:
    return await image(at, "m", ImageWish(prompt="a fox"), key="k")


async def _moderate(at: Account) -> Answer:
    return await moderate(at, "m", ["a"], key="k")


async def _transcribe(at: Account) -> Answer:
    return await transcribe(at, "gpt-4o-transcribe-diarize", HearWish(sound=SOUND), key="k")


async def _speak(at: Account) -> Answer:
    return await speak(at, "m", SpeechWish(text="a", voice="alloy", format="mp3"), key="k", heard=lambda text: None)


async def _of(asked: Callable[[Account], Awaitable[Answer]], at: Account) -> Answer:
    try:
        return await asked(at)
    finally:
        await aclose()


@pytest.mark.parametrize(
    ("asked", "name", "body", "usage"),
    [
        (_embed, "openai", VECTOR, Usage(told=False)),
        (_embed, "openai", VECTOR | {"usage": {}}, Usage()),
        (_embed, "openrouter", VECTOR | {"usage": BILLED}, Usage(input_tokens=3, billed_usd=COST)),
        (_embed, "google", {"embeddings": [{"values": [0.5]}]}, Usage(told=False)),
        (_image, "openai", {"data": [{"b64_json": PNG}], "usage": {}}, replace(ONE, told=False)),
        (_image, "openrouter", DRAWN, Usage(told=False)),
        (_image, "openrouter", DRAWN | {"usage": {"cost": 0.00777}}, replace(ONE, billed_usd=COST)),
        (_image, "google", {}, Usage(image="auto auto", told=False)),
        (_moderate, "openai", {"results": [{"flagged": True}]}, Usage(billed_usd=Decimal(0))),
        (_transcribe, "openai", {}, Usage(told=False)),
        (_transcribe, "openai", {"segments": [{"text": "a"}], "usage": {"type": "tokens"}}, Usage()),
    ],
)
def test_what_an_answer_lacks_raises_nothing(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, asked: Any, name: str, body: Any, usage: Usage
) -> None:
    monkeypatch.setattr(media, "make", lambda *_: media.Made(200, json.dumps(body).encode()))
    answer = asyncio.run(_of(asked, Account(name, "sk-test", provider.base_urls[name], 5.0)))
    assert answer.usage == usage


@pytest.mark.parametrize(("asked", "body"), [(_embed, {}), (_embed, {"data": []}), (_moderate, {}), (_image, {})])
def test_an_answer_without_all_it_is_for_broke_off(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, asked: Any, body: Any
) -> None:
    monkeypatch.setattr(media, "make", lambda *_: media.Made(200, json.dumps(body).encode()))
    with pytest.raises(CutStream):
        asyncio.run(_of(asked, Account("openrouter", "sk-test", provider.base_urls["openrouter"], 5.0)))


def test_events_of_speech_that_lack_their_fields(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = base64.b64encode(b"sound").decode()
    events: list[dict[str, Any]] = [{}, {"type": "speech.audio.delta"}, {"type": "speech.audio.delta", "audio": sound}]
    events.append({"type": "speech.audio.done", "usage": {"input_tokens": None}})
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    monkeypatch.setattr(media, "make", lambda *_: media.Made(200, body, "text/event-stream"))
    answer = asyncio.run(_of(_speak, Account("openai", "sk-test", provider.base_urls["openai"], 5.0)))
    assert answer.media[0].data == b"sound"
