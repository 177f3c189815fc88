"""What the stand-in makes that is no conversation: images, speech, transcriptions, embeddings, verdicts.

As the providers' documentation says it: images of OpenAI are base64 always and told in tokens, transcriptions have the
forms of their family, embeddings come as floats or base64, Gemini makes images and speech by ``generateContent``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import zlib
from typing import Any, NamedTuple

__all__ = ["Made", "make"]


class Made(NamedTuple):
    """An answer of HTTP."""

    status: int
    body: bytes
    media_type: str = "application/json"


def make(path: str, body: dict[str, Any], raw: bytes) -> Made | None:
    """The answer to a request of one of these kinds; None: it is another."""
    path = path.partition("?")[0]
    config = body.get("generationConfig") or {}
    if path.endswith(":generateContent") and config.get("responseModalities"):
        return _gemini(body, config["responseModalities"])
    if path.endswith(":batchEmbedContents"):
        return _google_vectors(body)
    for end, maker in _MAKERS.items():
        if path.endswith(end):
            return maker(body or _form(raw))
    if body.get("modalities") == ["image", "text"]:
        return _by_chat(body)
    return None


def _json(data: Any, status: int = 200) -> Made:
    return Made(status, json.dumps(data).encode())


def _refused(message: str, code: str, param: str | None = None) -> Made:
    return _json({"error": {"message": message, "type": "invalid_request_error", "code": code, "param": param}}, 400)


def _form(raw: bytes) -> dict[str, Any]:
    """The fields of a multipart form; of files their sizes."""
    fields: dict[str, Any] = {}
    for head, value in re.findall(rb"(?s)Content-Disposition: form-data; (.*?)\r\n\r\n(.*?)\r\n--", raw):
        name = re.search(rb'name="([^"]*)"', head)
        if name is not None:
            is_file = b"filename=" in head
            key = f"{name[1].decode()}{len(fields)}" if is_file else name[1].decode()
            fields[key] = len(value) if is_file else value.decode()
    return fields


def png(seed: str, kilobytes: int = 1) -> bytes:
    """A PNG of one pixel that has so much more in it, as its format allows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    filler = hashlib.shake_128(seed.encode()).digest(kilobytes * 1024)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", head),
            chunk(b"tEXt", b"filler\0" + filler),
            chunk(b"IDAT", zlib.compress(b"\0\0\0\0")),
            chunk(b"IEND", b""),
        )
    )


def _size_of(prompt: str) -> int:
    """A prompt may say how large its image is: ``2000 kB``."""
    found = re.search(r"(\d+) kB", prompt)
    return int(found[1]) if found else 1


def _images(asked: dict[str, Any]) -> Made:
    prompt = str(asked.get("prompt", ""))
    if "forbidden" in prompt:
        return _refused("Your request was rejected by the safety system.", "moderation_blocked")
    if "response_format" in asked:
        return _refused("Unknown parameter: 'response_format'.", "unknown_parameter", "response_format")
    number, shown = int(asked.get("n", 1)), sum(name.startswith("image") for name in asked)
    if "nothing" in prompt:
        number = 0
    tokens = {"input_tokens": 10 + 300 * shown, "output_tokens": 272 * number}
    details = {"text_tokens": 10, "image_tokens": 300 * shown}
    drawn = [{"b64_json": base64.b64encode(png(f"{prompt}{i}", _size_of(prompt))).decode()} for i in range(number)]
    return _json(
        {
            "created": 1,
            "data": drawn,
            "output_format": asked.get("output_format", "png"),
            "quality": asked.get("quality", "low"),
            "size": asked.get("size", "1024x1024"),
            "usage": tokens | {"total_tokens": sum(tokens.values()), "input_tokens_details": details},
        }
    )


def _by_chat(asked: dict[str, Any]) -> Made:
    prompt = asked["messages"][-1]["content"][-1]["text"]
    url = f"data:image/png;base64,{base64.b64encode(png(prompt)).decode()}"
    message = {"role": "assistant", "content": "", "images": [{"type": "image_url", "image_url": {"url": url}}]}
    usage = {"prompt_tokens": 10, "completion_tokens": 1290, "total_tokens": 1300, "cost": 0.0387}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return _json(
        {"id": "g1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    )


def _speech(asked: dict[str, Any]) -> Made:
    sound = f"{asked['voice']} says {asked['input']}".encode()
    if asked.get("stream_format") != "sse":
        return Made(200, sound, "audio/mpeg")
    if asked["model"].startswith("tts-1"):
        return _refused("stream_format 'sse' is not supported.", "unsupported_value", "stream_format")
    half = len(sound) // 2
    events: list[dict[str, Any]] = [
        {"type": "speech.audio.delta", "audio": base64.b64encode(part).decode()}
        for part in (sound[:half], sound[half:])
    ]
    events.append(
        {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}
    )
    return Made(200, "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode(), "text/event-stream")


def _transcription(asked: dict[str, Any]) -> Made:
    model, form = asked["model"], asked.get("response_format", "json")
    seconds = {"type": "duration", "seconds": 30.0}
    tokens = {"type": "tokens", "input_tokens": 300, "output_tokens": 20, "total_tokens": 320}
    tokens |= {"input_token_details": {"audio_tokens": 290, "text_tokens": 10}}
    text = "" if asked.get("prompt") == "silence" else "spoken words"
    if model.startswith("whisper"):
        told = {"duration": 30.0, "language": "en"} if form == "verbose_json" else {}
        return _json({"text": text, "usage": seconds} | told)
    if "diarize" in model:
        if form != "diarized_json":
            return _json({"text": text, "usage": tokens})
        said = [("A", "spoken"), ("B", "words")]
        parts = [
            {"type": "transcript.text.segment", "id": f"s{i}", "start": i, "end": i + 1, "speaker": who, "text": word}
            for i, (who, word) in enumerate(said)
        ]
        return _json({"task": "transcribe", "duration": 2.0, "text": text, "segments": parts, "usage": tokens})
    if form != "json":
        return _refused(f"response_format '{form}' is not compatible with model '{model}'.", "unsupported_value")
    return _json({"text": text, "usage": seconds if model.startswith("gpt-transcribe") else tokens})


def _vector(text: str, dimensions: int) -> list[float]:
    """Small whole numbers, so that float32 has them exactly."""
    digest = hashlib.shake_128(text.encode()).digest(dimensions)
    return [byte / 256 for byte in digest]


def _vectors(asked: dict[str, Any]) -> Made:
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    if not texts or len(texts) > 2_048 or "" in texts:
        return _refused("'$.input' is invalid.", "invalid_value", "input")
    width = int(asked.get("dimensions", 1_536))
    data: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        vector: Any = _vector(text, width)
        if asked.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{width}f", *vector)).decode()
        data.insert(0, {"object": "embedding", "index": index, "embedding": vector})
    tokens = sum(len(text) // 4 + 1 for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _json({"object": "list", "data": data, "model": asked["model"], "usage": usage})


def _google_vectors(asked: dict[str, Any]) -> Made:
    made = []
    for request in asked["requests"]:
        text = request["content"]["parts"][0]["text"]
        made.append({"values": _vector(text, request.get("outputDimensionality", 3_072))})
    return _json({"embeddings": made})


_CATEGORIES = (
    "harassment harassment/threatening hate hate/threatening illicit illicit/violent self-harm self-harm/instructions "
    "self-harm/intent sexual sexual/minors violence violence/graphic"
)


def _verdicts(asked: dict[str, Any]) -> Made:
    results = []
    for text in asked["input"]:
        flagged = "kill" in text
        categories = {name: flagged and name == "violence" for name in _CATEGORIES.split()}
        scores = {name: 0.9 if is_so else 0.01 for name, is_so in categories.items()}
        types = {name: ["text"] for name in categories}
        results.append(
            {
                "flagged": flagged,
                "categories": categories,
                "category_scores": scores,
                "category_applied_input_types": types,
            }
        )
    return _json({"id": "modr-1", "model": asked["model"], "results": results})


def _gemini(asked: dict[str, Any], modalities: list[str]) -> Made:
    prompt = asked["contents"][-1]["parts"][-1]["text"]
    usage: dict[str, Any] = {"promptTokenCount": 8, "candidatesTokenCount": 1_290, "totalTokenCount": 1_298}
    if "forbidden" in prompt:
        candidate: dict[str, Any] = {"finishReason": "IMAGE_SAFETY", "index": 0}
        return _json({"candidates": [candidate], "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8}})
    if "AUDIO" in modalities:
        kind, data, modality = "audio/L16;codec=pcm;rate=24000", b"\1\0" * 2_400, "AUDIO"
    else:
        kind, data, modality = "image/png", png(prompt, _size_of(prompt)), "IMAGE"
    part = {"inlineData": {"mimeType": kind, "data": base64.b64encode(data).decode()}}
    usage["candidatesTokensDetails"] = [{"modality": modality, "tokenCount": 1_290}]
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    return _json({"candidates": [candidate], "usageMetadata": usage})


_MAKERS = {
    "/images/generations": _images,
    "/images/edits": _images,
    "/audio/speech": _speech,
    "/audio/transcriptions": _transcription,
    "/embeddings": _vectors,
    "/moderations": _verdicts,
}
