"""Whole answers of a stand-in that speaks as the providers document: what comes of each, and of what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from examples.ai.provider import Fault, Provider
from examples.ai.script import Script
from fourlane.providers.ai import (
    Account,
    Answer,
    ChatMessage,
    Citation,
    CutStream,
    EmptyAccount,
    FailedAnswer,
    Media,
    Question,
    Tool,
    Unsendable,
    Usage,
    aclose,
    ask,
    is_fault_of_ours,
    read_error,
    refusals,
)
from fourlane.providers.ai.accounts import client, streamed
from fourlane.providers.signals import Signal

DOWN = Signal("down", again=True)

# protocol: provider and a model that thinks
SPEAKERS = {
    "responses": ("openai", "gpt-5"),
    "chat": ("openrouter", "openai/gpt-5"),
    "anthropic": ("anthropic", "claude-opus-5"),
    "google": ("google", "gemini-3-flash"),
}
all_protocols = pytest.mark.parametrize("speaks", SPEAKERS)


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(server: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setattr(refusals, "_known", {})
    server.faults.clear()
    server.scripts.clear()
    server.requests.clear()
    return server


def account(provider: Provider, speaks: str, **changes: Any) -> Account:
    name = SPEAKERS[speaks][0]
    return replace(Account(name, "sk-test", provider.base_urls[name], 5.0), **changes)


def question(speaks: str, *messages: ChatMessage, **options: Any) -> Question:
    options = {"model": SPEAKERS[speaks][1], "idempotency_key": "k"} | options
    return Question(messages=messages or (ChatMessage(role="user", text="hi"),), **options)


def asked(provider: Provider, speaks: str, *messages: ChatMessage, heard: Any = None, **options: Any) -> Answer:
    return asked_of(account(provider, speaks), question(speaks, *messages, **options), heard)


def asked_of(at: Account, question: Question, heard: list[str] | None = None) -> Answer:
    async def run() -> Answer:
        try:
            return await ask(at, question, (lambda text: None) if heard is None else heard.append)
        finally:
            await aclose()

    return asyncio.run(run())


@all_protocols
def test_an_answer_in_pieces(provider: Provider, speaks: str) -> None:
    heard: list[str] = []
    answer = asked(provider, speaks, heard=heard)
    assert (answer.outcome, answer.text, "".join(heard)) == ("ok", "You said: hi ", "You said: hi ")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.told) == (1, 3, True)
    assert answer.first_ms > 0
    assert len(provider.requests) == 1


@all_protocols
def test_thoughts_are_signs_of_life_and_not_in_the_text(provider: Provider, speaks: str) -> None:
    provider.scripts.append(Script(thoughts=("hm ", "so"), pieces=("hello",), pings=2))
    heard: list[str] = []
    answer = asked(provider, speaks, heard=heard)
    assert answer.text == "hello"
    assert [text for text in heard if text] == ["hello"]
    assert heard.count("") >= 2
    counted = 2 if speaks in ("responses", "google") else 0  # the others are not scripted to say it apart
    assert answer.usage.reasoning_tokens == counted
    assert answer.usage.output_tokens == 3


@all_protocols
def test_what_comes_before_the_answer_is_no_sign_of_life(provider: Provider, speaks: str) -> None:
    """Overload comes behind it, in a stream that began well."""
    provider.scripts.append(Script(pieces=(), pings=3))
    heard: list[str] = []
    answer = asked(provider, speaks, heard=heard)
    assert (answer.outcome, [text for text in heard if text]) == ("empty", [])
    if speaks != "google":  # it has a last part, which is empty
        assert heard == []


PLACES = Tool(name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})


@all_protocols
def test_tool_calls_and_their_turn_given_back(provider: Provider, speaks: str) -> None:
    calls = (("weather", {"city": "Rome"}), ("weather", {"city": "Øslo"}))
    provider.scripts.append(Script(calls=calls, thoughts=("hm",)))
    answer = asked(provider, speaks, tools=(PLACES,))
    assert answer.outcome == "tool_calls"
    assert [(call.name, call.arguments) for call in answer.calls] == [
        ("weather", '{"city": "Rome"}'),
        ("weather", '{"city": "\\u00d8slo"}'),
    ]
    assert len({call.id for call in answer.calls}) == 2
    results = [ChatMessage(role="tool", call_id=call.id, text="sun") for call in answer.calls]
    turn = ChatMessage(role="assistant", text=answer.text, calls=answer.calls, raw=answer.raw)
    second = asked(provider, speaks, ChatMessage(role="user", text="hi"), turn, *results, tools=(PLACES,))
    assert second.text.startswith("You said: sun")
    sealed = {"responses": "sealed-thoughts", "anthropic": "signed-thoughts", "google": "c2lnbmVk", "chat": "call_0"}
    assert sealed[speaks] in str(provider.requests[1]["body"])


@all_protocols
def test_a_tool_must_be_called(provider: Provider, speaks: str) -> None:
    answer = asked(provider, speaks, tools=(PLACES,), must_call=True)
    assert [(call.name, call.arguments) for call in answer.calls] == [("weather", '{"city": "word"}')]


@all_protocols
def test_an_answer_by_a_schema(provider: Provider, speaks: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "age": {"type": "integer"}}}
    assert asked(provider, speaks, schema=schema).text == '{"city": "word", "age": 1}'


@all_protocols
def test_citations(provider: Provider, speaks: str) -> None:
    provider.scripts.append(Script(pieces=("Rome is old",), citations=(("https://a.b", "A"),)))
    [citation] = asked(provider, speaks).citations
    assert (citation.url, citation.title) == ("https://a.b", "A")
    if speaks in ("responses", "google"):
        assert (citation.start, citation.end) == (0, 11)


def test_perplexity_names_its_sources_beside_the_answer(provider: Provider) -> None:
    found = [{"url": "https://a.b", "title": "A", "snippet": "said"}]
    extra = {"citations": ["https://a.b", "https://c.d"], "search_results": found}
    provider.scripts.append(Script(pieces=("<think>hm", "</think>", "\nhello"), extra=extra))
    answer = asked(provider, "chat")
    assert answer.citations == (Citation(url="https://a.b", title="A", quote="said"),)
    assert answer.text == "hello"


def test_perplexity_by_its_agent_api(provider: Provider) -> None:
    bill = {"cost": {"total_cost": 0.0065, "currency": "USD"}}
    provider.scripts.append(Script(citations=(("https://a.b", "A"), ("https://c.d", "C")), usage=bill))
    at = Account("perplexity", "sk", provider.base_urls["perplexity"], 5.0)
    options: dict[str, Any] = {"effort": "low", "stop": ("END",), "temperature": 0.3, "cache": True}
    answer = asked_of(at, question("responses", model="sonar-reasoning-pro", **options))
    assert (answer.text, answer.outcome, answer.usage.billed_usd) == ("You said: hi ", "ok", Decimal("0.0065"))
    assert answer.usage.searches == 1
    assert answer.citations[0] == Citation(url="https://a.b", title="A", quote="of A")
    assert [citation.url for citation in answer.citations] == ["https://a.b", "https://c.d"]
    assert answer.raw is None  # what was found is not for it to read again
    [request] = provider.requests
    assert request["path"] == "/perplexity/v1/responses"


def test_perplexity_keeps_a_schema_and_takes_images(provider: Provider) -> None:
    at = Account("perplexity", "sk", provider.base_urls["perplexity"], 5.0)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    picture = Media(media_type="image/png", data=b"\x89PNG")
    asked = replace(
        question("responses", model="sonar", schema=schema),
        messages=(ChatMessage(role="user", text="hi", media=(picture,)),),
    )
    assert asked_of(at, asked).text == '{"city": "word"}'


ENDS = [
    ("responses", Script(finish="max_output_tokens"), "truncated"),
    ("responses", Script(finish="content_filter", pieces=()), "blocked"),
    ("responses", Script(refusal="no"), "refused"),
    ("responses", Script(pieces=()), "empty"),
    ("chat", Script(finish="length"), "truncated"),
    ("chat", Script(finish="content_filter"), "blocked"),
    ("chat", Script(refusal="no"), "refused"),
    ("chat", Script(finish="something_new"), "truncated"),
    ("anthropic", Script(finish="max_tokens"), "truncated"),
    ("anthropic", Script(finish="model_context_window_exceeded"), "truncated"),
    ("anthropic", Script(finish="pause_turn"), "truncated"),
    ("anthropic", Script(refusal="no"), "refused"),
    ("google", Script(finish="MAX_TOKENS"), "truncated"),
    ("google", Script(finish="RECITATION"), "blocked"),
    ("google", Script(finish="MALFORMED_FUNCTION_CALL"), "blocked"),
    ("google", Script(refusal="no"), "blocked"),
    ("google", Script(finish="SOMETHING_NEW", pieces=("",)), "blocked"),
]


@pytest.mark.parametrize(("speaks", "script", "outcome"), ENDS)
def test_outcomes(provider: Provider, speaks: str, script: Script, outcome: str) -> None:
    provider.scripts.append(script)
    assert asked(provider, speaks).outcome == outcome


USAGES = [
    (
        "responses",
        {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 5}},
        Usage(input_tokens=100, cache_read_tokens=60, cache_write_tokens=5, output_tokens=3),
    ),
    (
        "responses",
        {"output_tokens": 90, "output_tokens_details": {"reasoning_tokens": 70}},
        Usage(input_tokens=1, output_tokens=90, reasoning_tokens=70),
    ),
    (
        "chat",
        {
            "cost": 0.00078,
            "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 2},
            "completion_tokens_details": None,
        },
        Usage(
            input_tokens=1, cache_read_tokens=1, input_audio_tokens=2, output_tokens=3, billed_usd=Decimal("0.00078")
        ),
    ),
    (
        "chat",
        {"cost": {"total_cost": 0.0065}, "num_search_queries": 2, "reasoning_tokens": 1},
        Usage(input_tokens=1, output_tokens=3, reasoning_tokens=1, searches=2, billed_usd=Decimal("0.0065")),
    ),
    (
        "anthropic",
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 50,
            "cache_creation_input_tokens": 40,
            "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 10},
            "output_tokens": 20,
            "output_tokens_details": {"thinking_tokens": 15},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
        },
        Usage(
            input_tokens=100,
            cache_read_tokens=50,
            cache_write_tokens=40,
            cache_write_1h_tokens=10,
            output_tokens=20,
            reasoning_tokens=15,
            searches=2,
        ),
    ),
    (
        "google",
        {
            "promptTokenCount": 10,
            "toolUsePromptTokenCount": 5,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 20_000,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}, {"modality": "IMAGE", "tokenCount": 3}],
        },
        Usage(
            input_tokens=15,
            cache_read_tokens=4,
            input_image_tokens=3,
            output_tokens=20_005,
            reasoning_tokens=20_000,
        ),
    ),
]


@pytest.mark.parametrize(("speaks", "told", "usage"), USAGES)
def test_usage(provider: Provider, speaks: str, told: dict[str, Any], usage: Usage) -> None:
    provider.scripts.append(Script(usage=told))
    assert asked(provider, speaks).usage == usage


@pytest.mark.parametrize("speaks", ["responses", "chat", "google"])
def test_an_answer_without_usage(provider: Provider, speaks: str) -> None:
    provider.scripts.append(Script(usage=None))
    answer = asked(provider, speaks)
    assert (answer.text, answer.usage.told) == ("You said: hi ", False)


@all_protocols
def test_a_letter_torn_over_two_events(provider: Provider, speaks: str) -> None:
    provider.scripts.append(Script(pieces=("hello \ud83d", "\ude00 and \ud83d")))
    heard: list[str] = []
    answer = asked(provider, speaks, heard=heard)
    assert answer.text == "hello 😀 and \ufffd"
    assert "".join(heard) == answer.text


FAILURES = [
    ("responses", Fault("error", word="server_error"), DOWN),
    ("responses", Fault("failed", word="rate_limit_exceeded"), Signal("limited", again=True, silence_ms=-1)),
    ("responses", Fault("failed", word="a_new_word"), DOWN),
    ("responses", Fault("failed", word="invalid_image_url"), Signal("neutral")),
    ("chat", Fault("error", word="502"), DOWN),
    ("chat", Fault("error", word="429"), Signal("limited", again=True, silence_ms=-1)),
    ("anthropic", Fault("error", word="overloaded_error"), DOWN),
    ("google", Fault("error", word="UNAVAILABLE"), DOWN),
]


@pytest.mark.parametrize(("speaks", "fault", "signal"), FAILURES)
def test_an_error_amid_an_answer_says_what_it_means_and_keeps_what_came(
    provider: Provider, speaks: str, fault: Fault, signal: Signal
) -> None:
    provider.faults.append(fault)
    with pytest.raises(FailedAnswer, match=fault.word) as failed:
        asked(provider, speaks)
    assert read_error(failed.value) == signal
    assert is_fault_of_ours(failed.value) == (signal == Signal("neutral"))
    if speaks in ("anthropic", "google"):
        assert failed.value.answer.usage.input_tokens == 1  # type: ignore[attr-defined]


def test_a_response_that_is_held_back_is_no_error(provider: Provider) -> None:
    provider.faults.append(Fault("failed", word="invalid_prompt"))
    answer = asked(provider, "responses")
    assert (answer.outcome, answer.finish) == ("blocked", "invalid_prompt")


@all_protocols
@pytest.mark.parametrize("kind", ["cut", "broken", "malformed"])
def test_a_broken_answer(provider: Provider, speaks: str, kind: str) -> None:
    provider.faults.append(Fault(kind))
    with pytest.raises(Exception) as broken:
        asked(provider, speaks)
    assert read_error(broken.value) == DOWN
    assert isinstance(broken.value, CutStream) == (kind == "cut")
    text = broken.value.answer.text  # type: ignore[attr-defined]
    assert "You said: hi ".startswith(text)


STATUSES = [
    (401, "", Signal("neutral"), True),
    (402, "", Signal("neutral"), True),
    (404, "model_not_found", Signal("neutral"), True),
    (429, "insufficient_quota", Signal("neutral"), True),
    (429, "", Signal("limited", again=True, silence_ms=-1), False),
    (500, "", DOWN, False),
    (503, "", DOWN, False),
    (529, "overloaded_error", DOWN, False),
]


@all_protocols
@pytest.mark.parametrize(("status", "word", "signal", "ours"), STATUSES)
def test_statuses(provider: Provider, speaks: str, status: int, word: str, signal: Signal, ours: bool) -> None:
    provider.faults.append(Fault("status", status, word=word))
    with pytest.raises(Exception) as refused:
        asked(provider, speaks)
    assert (read_error(refused.value), is_fault_of_ours(refused.value)) == (signal, ours)
    assert isinstance(refused.value, EmptyAccount) == (status == 402 or word == "insufficient_quota")
    assert len(provider.requests) == 1  # no SDK tries again by itself


@all_protocols
@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secret\0"])
def test_a_key_that_no_header_can_carry_is_our_fault_and_not_told(provider: Provider, speaks: str, key: str) -> None:
    with pytest.raises(Unsendable) as refused:
        asked_of(account(provider, speaks, api_key=key), question(speaks))
    assert (read_error(refused.value), is_fault_of_ours(refused.value)) == (Signal("neutral"), True)
    assert "secr" not in str(refused.value)
    assert refused.value.__suppress_context__
    assert provider.requests == []


@all_protocols
def test_stop_words_hold_for_models_that_take_none(provider: Provider, speaks: str) -> None:
    provider.scripts.append(Script(pieces=("one EN", "D two")))
    text = asked(provider, speaks, stop=("END",)).text
    # the stand-in does not stop by itself
    assert text == ("one " if speaks in ("responses", "chat") else "one END two")


def test_what_a_new_model_refuses_is_left_out_and_remembered(provider: Provider) -> None:
    """A model that ``families`` takes for one that does not think."""

    at = Account("perplexity", "sk", provider.base_urls["perplexity"], 5.0, "chat")
    for _ in range(2):
        options: dict[str, Any] = {"model": "o9", "temperature": 0.1, "stop": ("x",), "max_tokens": 7}
        assert asked_of(at, question("chat", **options)).text == "You said: hi "
    bodies = [request["body"] for request in provider.requests]
    assert len(bodies) == 4 + 1
    assert bodies[-1] == bodies[-2]
    keys = [request["headers"]["idempotency-key"] for request in provider.requests]
    assert len(set(keys)) == 4  # one for each request that is another
    assert keys[-1] == keys[-2]
    assert bodies[-1]["max_completion_tokens"] == 7
    assert not {"temperature", "stop", "max_tokens"} & bodies[-1].keys()


def test_what_may_not_be_left_out_is_refused_once(provider: Provider) -> None:
    provider.faults.append(Fault("status", 400, word="invalid_request_error"))
    with pytest.raises(Exception, match="planned 400"):
        asked(provider, "responses", temperature=0.3)
    assert len(provider.requests) == 1


ODD: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
    {"choices": []},
    {"choices": None},
    {"choices": [None]},
    {"choices": [{"delta": {"content": None, "tool_calls": None, "role": "assistant"}}]},
    {"choices": [{"delta": {"tool_calls": [None, {"index": 0, "function": None}]}}], "usage": None},
    {"usage": {"prompt_tokens": None, "completion_tokens": 3, "prompt_tokens_details": None}},
    {"object": "something.else"},
    {},
]


def test_odd_events_of_gateways_fail_nothing() -> None:
    from fourlane.providers.ai.openai_chat import _ChatAnswer

    reading = _ChatAnswer("openrouter", "m")
    for event in ODD:
        assert all(piece.text == "" for piece in reading.pieces(event))
    assert reading.end().calls == ()


@pytest.mark.parametrize("name", ["openai", "anthropic", "openrouter", "perplexity"])
def test_a_request_goes_where_the_sdk_would_send_it_with_the_same_headers(provider: Provider, name: str) -> None:
    at = Account(name, "sk-test", provider.base_urls[name], 5.0)
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "input": "hi",
        "stream": True,
        "max_tokens": 9,
    }
    path = "/v1/messages" if name == "anthropic" else "/chat/completions"

    async def twice() -> None:
        told = await client(at).post(path, cast_to=object, body=body, options={"headers": {"x-own": "1"}}, stream=False)
        assert told is not None
        await (await streamed(at, path, body=body, headers={"x-own": "1"})).aclose()
        await aclose()

    asyncio.run(twice())
    by_sdk, ours = provider.requests
    of_its_tries = ("x-stainless-retry-count", "x-stainless-read-timeout", "x-stainless-timeout")
    sent = [{key: value for key, value in one["headers"].items() if key not in of_its_tries} for one in (by_sdk, ours)]
    assert sent[0] == sent[1]
    assert by_sdk["path"] == ours["path"]
    assert by_sdk["body"] == ours["body"]
