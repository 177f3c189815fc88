"""What is sent: one question in the words of each protocol."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from fourlane.providers.ai import (
    ChatMessage,
    Media,
    Question,
    Tool,
    ToolCall,
    anthropic,
    google,
    openai_chat,
    openai_responses,
)
from fourlane.providers.ai.families import family

PNG = base64.b64encode(b"\x89PNG").decode()
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool(name="weather", description="Of a city.", parameters=CITY)


def question(model: str, *messages: ChatMessage, **options: Any) -> Question:
    return Question(
        model=model, messages=messages or (ChatMessage(role="user", text="hi"),), idempotency_key="k", **options
    )


def responses(asked: Question, provider: str = "openai") -> dict[str, Any]:
    return openai_responses.body_of(provider, asked, family(provider, asked.model))


def chat(asked: Question, provider: str = "openai") -> dict[str, Any]:
    return openai_chat.body_of(provider, asked, family(provider, asked.model))


def claude(asked: Question) -> dict[str, Any]:
    return anthropic.body_of("anthropic", asked, family("anthropic", asked.model))


def gemini(asked: Question) -> dict[str, Any]:
    return google.body_of("google", asked, family("google", asked.model))


SAID: list[tuple[Any, Any, dict[str, Any], dict[str, Any]]] = [
    # how, model, options, what must stand in the request (None: what must not)
    (
        responses,
        "gpt-4o",
        {"temperature": 0.2, "effort": "low"},
        {"temperature": 0.2, "reasoning": None, "include": None},
    ),
    (responses, "gpt-4o", {"max_tokens": 1}, {"max_output_tokens": 16, "max_tokens": None, "store": False}),
    (responses, "gpt-5", {"temperature": 0.2, "effort": "max"}, {"temperature": None, "reasoning": {"effort": "high"}}),
    (responses, "gpt-5", {}, {"include": ["reasoning.encrypted_content"], "reasoning": None}),
    (
        responses,
        "gpt-6-sol",
        {"temperature": 0.2, "effort": "none"},
        {"temperature": 0.2, "reasoning": {"effort": "none"}},
    ),
    (responses, "gpt-4o", {"seed": 3, "stop": ("x",)}, {"seed": None, "stop": None}),
    (chat, "gpt-4o", {"seed": 3, "stop": ("x",)}, {"seed": 3, "stop": ["x"], "max_tokens": 1024}),
    (chat, "gpt-5", {"stop": ("x",)}, {"stop": None, "max_completion_tokens": 1024, "max_tokens": None}),
    (chat, "o3", {"effort": "minimal"}, {"reasoning_effort": "low"}),
    (claude, "claude-haiku-4-5", {"temperature": 1.4}, {"temperature": 1.0, "thinking": None}),
    (
        claude,
        "claude-haiku-4-5",
        {"effort": "low", "max_tokens": 10_000},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
    ),
    (claude, "claude-haiku-4-5", {"effort": "low", "max_tokens": 1_000}, {"thinking": None}),
    (claude, "claude-opus-4-8", {"temperature": 0.3}, {"temperature": None, "thinking": None}),
    (
        claude,
        "claude-opus-4-8",
        {"effort": "xhigh"},
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}},
    ),
    (claude, "claude-opus-5", {"effort": "none"}, {"thinking": {"type": "disabled"}, "output_config": None}),
    (
        claude,
        "claude-opus-5-5",
        {"effort": "none"},
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}},
    ),
    (claude, "claude-opus-5", {"stop": ("x",), "seed": 1}, {"stop_sequences": ["x"], "seed": None}),
]


@pytest.mark.parametrize(
    ("how", "model", "options", "said"), SAID, ids=lambda value: getattr(value, "__name__", str(value))[:50]
)
def test_parameters(how: Any, model: str, options: dict[str, Any], said: dict[str, Any]) -> None:
    body = how(question(model, **options))
    assert {name: body.get(name) for name in said} == said


THINKING = [
    ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
    ("gemini-2.5-pro", "none", {"thinkingBudget": 1_024}),
    ("gemini-2.5-flash", "medium", {"thinkingBudget": 8_192}),
    ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH"}),
    ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW"}),
    ("gemini-2.0-flash", "high", None),
]


@pytest.mark.parametrize(("model", "effort", "config"), THINKING)
def test_how_much_gemini_thinks(model: str, effort: Any, config: Any) -> None:
    assert gemini(question(model, effort=effort))["generationConfig"].get("thinkingConfig") == config


def test_openrouter_is_told_efforts_and_asked_what_it_bills() -> None:
    body = chat(question("openai/gpt-5", effort="xhigh", system="be kind", cache=True), "openrouter")
    assert (body["reasoning"], body["usage"]) == ({"effort": "xhigh"}, {"include": True})
    assert body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}


SEARCH = {"type": "web_search"}
AGENTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("sonar", {}, {"model": "perplexity/sonar", "preset": None, "tools": [SEARCH], "tool_choice": SEARCH}),
    ("sonar-pro", {}, {"model": "perplexity/sonar", "preset": "fast", "tools": None, "tool_choice": None}),
    ("sonar-reasoning", {}, {"model": "perplexity/sonar", "preset": "low"}),
    ("sonar-reasoning-pro", {}, {"model": "perplexity/sonar", "preset": "low", "include": None}),
    ("sonar-deep-research", {}, {"model": "perplexity/sonar", "preset": "medium", "include": None}),
    ("perplexity/glm-5.3", {}, {"model": "perplexity/glm-5.3", "preset": None, "tools": [SEARCH]}),
    (
        "sonar",
        {"schema": CITY},
        {
            "text": None,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": CITY, "strict": True},
            },
        },
    ),
]


@pytest.mark.parametrize(("model", "options", "said"), AGENTS)
def test_perplexity_is_asked_by_its_agent_api(model: str, options: dict[str, Any], said: dict[str, Any]) -> None:
    body = responses(question(model, **options), "perplexity")
    assert {name: body.get(name) for name in said} == said


def test_perplexity_may_search_beside_the_tools_of_a_job() -> None:
    body = responses(question("sonar", tools=(WEATHER,), must_call=True), "perplexity")
    assert [tool["type"] for tool in body["tools"]] == ["function", "web_search"]
    assert body["tool_choice"] == "required"
    assert [tool["type"] for tool in responses(question("sonar-pro", tools=(WEATHER,)), "perplexity")["tools"]] == [
        "function"
    ]


CONVERSATION = (
    ChatMessage(role="user", text="weather in Rome and Oslo?"),
    ChatMessage(
        role="assistant",
        text="let me see",
        calls=(
            ToolCall(id="c1", name="weather", arguments='{"city": "Rome"}'),
            ToolCall(id="c2", name="weather", arguments='{"city": "Oslo"}'),
        ),
    ),
    ChatMessage(role="tool", call_id="c1", text="sun"),
    ChatMessage(role="tool", call_id="c2", text="snow"),
    ChatMessage(role="user", text="and now?"),
)


def test_a_conversation_by_the_responses_api() -> None:
    body = responses(question("gpt-4o", *CONVERSATION, system="be kind", tools=(WEATHER,), must_call=True))
    assert body["instructions"] == "be kind"
    assert body["input"] == [
        {"role": "user", "content": "weather in Rome and Oslo?"},
        {"role": "assistant", "content": "let me see"},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city": "Oslo"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": "snow"},
        {"role": "user", "content": "and now?"},
    ]
    tool = {"type": "function", "name": "weather", "description": "Of a city.", "parameters": CITY, "strict": True}
    assert (body["tools"], body["tool_choice"]) == ([tool], "required")


def test_a_conversation_by_chat() -> None:
    body = chat(question("gpt-4o", *CONVERSATION, system="be kind", tools=(WEATHER,), must_call=True))
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool", "tool", "user"]
    called = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    assert body["messages"][2]["tool_calls"][0] == called
    assert body["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "sun"}
    assert body["tool_choice"] == "required"


def test_a_conversation_with_claude_has_the_answers_of_tools_in_one_turn() -> None:
    body = claude(
        question("claude-opus-5", *CONVERSATION, tools=(WEATHER,), must_call=True, system="be kind", cache=True)
    )
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]
    assert body["messages"][1]["content"][1] == {
        "type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"},
    }  # fmt: skip
    assert (body["tool_choice"], body["thinking"]) == ({"type": "any"}, {"type": "disabled"})
    cached = {"type": "ephemeral"}
    assert body["system"] == [{"type": "text", "text": "be kind", "cache_control": cached}]
    assert body["messages"][1]["content"][-1]["cache_control"] == cached
    assert "cache_control" not in body["messages"][2]["content"][-1]


def test_claude_cannot_be_forced_where_it_always_thinks() -> None:
    body = claude(question("claude-opus-5-5", tools=(WEATHER,), must_call=True))
    assert ("tool_choice" not in body, body["thinking"]["type"]) == (True, "adaptive")


def test_a_conversation_with_gemini() -> None:
    body = gemini(question("gemini-3.8-flash", *CONVERSATION, system="be kind", tools=(WEATHER,), must_call=True))
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
    assert body["contents"][2]["parts"][0] == {
        "functionResponse": {"name": "weather", "response": {"result": "sun"}, "id": "c1"}
    }
    assert body["systemInstruction"] == {"parts": [{"text": "be kind"}]}
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == CITY


LOOK = ChatMessage(
    role="user",
    text="look",
    media=(
        Media(media_type="image/png", data=b"\x89PNG", name="a.png"),
        Media(media_type="application/pdf", data=b"%PDF", name="b.pdf"),
        Media(media_type="audio/mpeg", data=b"ID3", name="c.mp3"),
        Media(media_type="text/csv", data=b"x,y", name="d.csv"),
    ),
)
PDF, MP3 = base64.b64encode(b"%PDF").decode(), base64.b64encode(b"ID3").decode()


def test_files_in_the_words_of_each_protocol() -> None:
    text = "d.csv:\nx,y\n\nlook"
    assert responses(question("gpt-4o", LOOK))["input"][0]["content"] == [
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
        {"type": "input_file", "filename": "b.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
        {"type": "input_audio", "input_audio": {"data": MP3, "format": "mp3"}},
        {"type": "input_text", "text": text},
    ]
    assert chat(question("gpt-4o", LOOK))["messages"][0]["content"] == [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "file", "file": {"filename": "b.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
        {"type": "input_audio", "input_audio": {"data": MP3, "format": "mp3"}},
    ]
    image, document, _, said = claude(question("claude-opus-5", LOOK))["messages"][0]["content"]
    assert image == {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert (document["type"], document["title"], said["text"]) == ("document", "b.pdf", text)
    assert gemini(question("gemini-3-flash", LOOK))["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": PNG}},
        {"inlineData": {"mimeType": "application/pdf", "data": PDF}},
        {"inlineData": {"mimeType": "audio/mpeg", "data": MP3}},
        {"text": text},
    ]


def test_a_schema_in_the_words_of_each_protocol() -> None:
    loose = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}
    asked = question("gpt-4o", schema=loose)
    form = {"type": "json_schema", "name": "answer", "schema": CITY, "strict": True}
    assert responses(asked)["text"] == {"format": form}
    del form["type"]
    assert chat(asked)["response_format"] == {"type": "json_schema", "json_schema": form}
    format_ = claude(replace(asked, model="claude-opus-5"))["output_config"]["format"]
    assert (format_["type"], format_["schema"]["additionalProperties"]) == ("json_schema", False)
    config = gemini(replace(asked, model="gemini-3-flash"))["generationConfig"]
    assert (config["responseMimeType"], config["responseJsonSchema"]) == ("application/json", loose)


def test_what_begins_alike_has_one_cache_key() -> None:
    one, same, other = (
        responses(question("gpt-4o", ChatMessage(role="user", text=text), system=system, cache=True))[
            "prompt_cache_key"
        ]
        for text, system in (("a", "be kind"), ("b", "be kind"), ("a", "be brief"))
    )
    assert one == same != other
    assert "prompt_cache_key" not in responses(question("gpt-4o"))


@pytest.mark.parametrize(
    ("how", "provider", "model", "content"),
    [
        (responses, "openai", "gpt-5", [{"type": "reasoning", "id": "rs_1", "encrypted_content": "x", "summary": []}]),
        (claude, "anthropic", "claude-opus-5", [{"type": "thinking", "thinking": "", "signature": "s"}]),
        (gemini, "google", "gemini-3-flash", [{"functionCall": {"name": "f"}, "thoughtSignature": "c2ln"}]),
    ],
    ids=["openai", "anthropic", "google"],
)
def test_a_model_gets_its_own_turn_back_and_no_other_models(how: Any, provider: str, model: str, content: Any) -> None:
    asked = ChatMessage(role="user", text="hi")
    turn = ChatMessage(role="assistant", text="so", raw={"provider": provider, "model": model, "content": content})
    sent = str(how(question(model, asked, turn, asked)))
    assert str(content[0])[1:-1] in sent
    other = replace(turn, raw={**(turn.raw or {}), "model": "another"})
    sent = str(how(question(model, asked, other, asked)))
    assert str(content[0])[1:-1] not in sent
    assert "so" in sent
