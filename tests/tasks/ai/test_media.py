"""Images, sound, vectors and verdicts as jobs, against a stand-in; and what is refused before one is accepted."""

from __future__ import annotations

import asyncio
import base64
import wave
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import fourlane
from examples.ai.media import png
from examples.ai.provider import Provider
from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai import aclose
from fourlane.queues.broker import RedisBroker
from fourlane.root import root
from fourlane.storage.setup import storage
from fourlane.tasks import ai
from tests.worker.conftest import RunWorker

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def stored(ref: str) -> bytes:
    return root().part(storage).get(ref).data


def test_images_are_files_and_are_booked(media_tasks: RedisBroker, run_worker: RunWorker, provider: Provider) -> None:
    run_worker(media_tasks, "ai")
    job = ai.image.send_with_options(args=("a fox",), kwargs={"n": 2, "quality": "low"}, tenant="acme")
    reply = job.result(20)
    assert reply["files"] == [f"storage:ai/acme/{job.id}/image.{number}.png" for number in (1, 2)]
    assert [stored(ref) for ref in reply["files"]] == [png("a fox0"), png("a fox1")]
    assert reply["output_tokens"] == 544
    assert provider.requests[0]["body"] == {"model": "gpt-image-2.5-flare", "prompt": "a fox", "n": 2, "quality": "low"}


@pytest.mark.parametrize("model", ["google/gemini-3.1-flash-image", "openrouter/google/gemini-3.1-flash-image"])
def test_images_of_others(media_tasks: RedisBroker, run_worker: RunWorker, model: str) -> None:
    run_worker(media_tasks, "ai")
    reply = ai.image.send("a fox", model=model, size="16:9").result(20)
    assert stored(reply["files"][0]) == png("a fox")
    assert reply["output_tokens"] == 1_290


def test_an_image_is_edited(media_tasks: RedisBroker, run_worker: RunWorker, provider: Provider, files: Path) -> None:
    run_worker(media_tasks, "ai")
    (files / "a.png").write_bytes(png("a"))
    first = ai.image.send_with_options(args=("a fox",), tenant="acme").result(20)["files"][0]
    sources = ["a.png", first, f"data:image/png;base64,{base64.b64encode(png('b')).decode()}"]
    reply = ai.image.send_with_options(args=("as a drawing",), kwargs={"images": sources}, tenant="acme").result(20)
    assert provider.requests[-1]["path"].endswith("/images/edits")
    assert reply["input_tokens"] == 10 + 300 * 3


def test_a_prompt_that_is_blocked_is_no_fault_of_the_provider(
    asked: Any, media_tasks: RedisBroker, run_worker: RunWorker
) -> None:
    run_worker(media_tasks, "ai")
    with pytest.raises(fourlane.JobFailed, match="moderation_blocked"):
        ai.image.send("forbidden").result(20)
    asked(fallbacks={"openai/gpt-image-2": ["google/gemini-3.1-flash-image"]})
    with pytest.raises(fourlane.JobFailed, match=r"IMAGE_SAFETY|moderation_blocked"):
        ai.image.send("forbidden", model="openai/gpt-image-2").result(20)
    assert ai.image.send("a fox", model="openai/gpt-image-2").result(20)["files"]


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("openai/gpt-transcribe", "spoken words"),
        ("openai/gpt-4o-transcribe", "spoken words"),
        ("openai/gpt-4o-transcribe-diarize", "A: spoken\nB: words"),
        ("openai/whisper-1", "spoken words"),
    ],
)
def test_sound_is_written_down(
    media_tasks: RedisBroker, run_worker: RunWorker, files: Path, model: str, text: str
) -> None:
    run_worker(media_tasks, "ai")
    (files / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    reply = ai.transcribe.send("a.wav", model=model, language="en").result(20)
    assert (reply["text"], reply["outcome"]) == (text, "ok")


def test_silence_is_no_error(media_tasks: RedisBroker, run_worker: RunWorker, files: Path) -> None:
    run_worker(media_tasks, "ai")
    (files / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    reply = ai.transcribe.send("a.wav", prompt="silence").result(20)
    assert (reply["text"], reply["outcome"]) == ("", "empty")


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini-tts", "openai/tts-1"])
def test_a_text_is_spoken(media_tasks: RedisBroker, run_worker: RunWorker, model: str) -> None:
    run_worker(media_tasks, "ai")
    reply = ai.speak.send("hello", model=model, voice="coral").result(20)
    assert reply["files"][0].endswith("/speak.1.mp3")
    assert stored(reply["files"][0]) == b"coral says hello"
    assert reply["output_tokens"] == (101 if model.endswith("mini-tts") else 0)


def test_gemini_speaks_a_wav(media_tasks: RedisBroker, run_worker: RunWorker) -> None:
    run_worker(media_tasks, "ai")
    reply = ai.speak.send("hello").result(20)
    with wave.open(BytesIO(stored(reply["files"][0]))) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getnframes()) == (1, 24_000, 2_400)


def test_few_vectors_stand_in_the_result_many_in_files(
    media_tasks: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    run_worker(media_tasks, "ai")
    few = ai.embed.send(["a", "b"], dimensions=4).result(20)
    assert (len(few["vectors"]), few["files"], few["dimensions"]) == (2, [], 4)
    texts = [f"text {number}" for number in range(2_500)]
    many = ai.embed.send(texts, dimensions=4).result(20)
    assert (many["vectors"], len(many["files"]), many["count"]) == ([], 2, 2_500)
    assert [len(request["body"]["input"]) for request in provider.requests] == [2, 2_048, 452]
    rows = asyncio.run(ai.vectors(many))
    assert len(rows) == 2_500
    assert rows[2_048] == asyncio.run(ai.vectors(ai.embed.send([texts[2_048]], dimensions=4).result(20)))[0]


def test_vectors_of_google(media_tasks: RedisBroker, run_worker: RunWorker) -> None:
    run_worker(media_tasks, "ai")
    made = ai.embed.send(["a", "b"], model="google/gemini-embedding-2").result(20)
    assert (len(made["vectors"]), made["dimensions"], made["cost_estimated"]) == (2, 3_072, True)


def test_texts_are_moderated(media_tasks: RedisBroker, run_worker: RunWorker, provider: Provider) -> None:
    run_worker(media_tasks, "ai")
    made = ai.moderate.send(["a"] * 39 + ["kill"]).result(20)
    assert made["flagged"]
    assert [one["flagged"] for one in made["results"]] == [False] * 39 + [True]
    assert made["results"][-1]["categories"]["violence"]
    assert len(provider.requests) == 2


REFUSED = [
    (ai.image, ("",), {}, "prompt: text that is not empty"),
    (ai.image, ("a fox",), {"model": "claude-haiku-4.5"}, "cannot make images; use openai/"),
    (ai.image, ("a fox",), {"size": "1x1"}, "size '1x1'"),
    (ai.image, ("a fox",), {"images": ["none.png"]}, "is not there"),
    (ai.image, ("a fox",), {"images": ["../none.png"]}, "none.png"),
    (ai.image, ("a fox",), {"images": "a.png"}, "a list of texts"),
    (ai.transcribe, ("none.wav",), {}, "is not there"),
    (ai.transcribe, ("https://127.0.0.1/a.wav",), {}, "127.0.0.1"),
    (ai.transcribe, ("https://example.com/a.wav",), {"model": "sonar"}, "cannot transcribe"),
    (ai.speak, (" ",), {}, "text: text that is not empty"),
    (ai.speak, ("hello",), {"voice": "nobody"}, "voice 'Nobody'"),
    (ai.embed, ([],), {}, "no texts"),
    (ai.embed, ("hello",), {}, "are a list"),
    (ai.embed, (["a", " "],), {}, r"texts\[1\] is empty"),
    (ai.embed, (["a"] * 100_001,), {}, "too many"),
    (ai.embed, (["a"],), {"dimensions": 0}, "dimensions: 1 to"),
    (ai.embed, (["a"],), {"model": "claude-haiku-4.5"}, "cannot embed"),
    (ai.embed, (["word " * 10_000],), {}, r"texts\[0\] has about"),
    (ai.moderate, (["a"],), {"model": "gemini-2.5-flash"}, "cannot moderate"),
]


@pytest.mark.parametrize(("task", "args", "options", "said"), REFUSED)
def test_what_can_never_be_done_is_refused_at_enqueue_and_in_place(
    media_tasks: RedisBroker, provider: Provider, task: Any, args: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArguments, match=said):
        task.send(*args, **options)

    async def in_place() -> None:
        try:
            await task(*args, **options)
        finally:
            await aclose()

    with pytest.raises(Reject, match=said):
        asyncio.run(in_place())
    assert provider.requests == []


def test_vectors_of_two_models_are_never_mixed(asked: Any, media_tasks: RedisBroker) -> None:
    asked(fallbacks={"openai/text-embedding-3-small": ["openai/text-embedding-3-large"]})
    with pytest.raises(InvalidArguments, match="cannot be compared"):
        ai.embed.send(["a"])


def test_what_is_too_large_is_refused_for_nothing_paid(
    media_tasks: RedisBroker, run_worker: RunWorker, provider: Provider, files: Path
) -> None:
    run_worker(media_tasks, "ai")
    (files / "long.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt " + bytes(25 << 20))
    with pytest.raises(fourlane.JobFailed, match="26,214,400 bytes"):
        ai.transcribe.send("long.wav").result(20)
    (files / "text.wav").write_bytes(b"these are words")
    with pytest.raises(fourlane.JobFailed, match=r"text\.wav"):
        ai.transcribe.send("text.wav").result(20)
    assert provider.requests == []
