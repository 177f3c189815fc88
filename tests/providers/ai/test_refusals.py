"""Which parameter a refusal is for, in the providers' own words, and what becomes of the request."""

from __future__ import annotations

from typing import Any

import pytest

from fourlane.providers.ai.refusals import change_of, changed

CASES: list[tuple[dict[str, Any], str, str | None, dict[str, Any] | None]] = [
    # request, words, parameter named apart; the request that is made instead, None: none
    (
        {"model": "m", "max_tokens": 9},
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "max_tokens",
        {"model": "m", "max_completion_tokens": 9},
    ),
    (
        {"temperature": 0.5, "seed": 1},
        "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is"
        " supported.",
        "temperature",
        {"seed": 1},
    ),
    (
        {"temperature": 0.5, "seed": 1},
        "Unsupported parameter: 'temperature' is not supported with this model.",
        "temperature",
        {"seed": 1},
    ),
    (
        {"reasoning": {"effort": "minimal"}},
        "Unsupported value: 'minimal' is not supported with the 'gpt-5.1' model. Supported values are: 'none', 'low',"
        " 'medium', and 'high'.",
        "reasoning.effort",
        {"reasoning": {"effort": "low"}},
    ),
    (
        {"reasoning": {"effort": "low"}, "input": "hi"},
        "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
        "reasoning.effort",
        {"input": "hi"},
    ),
    (
        {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low"}},
        "Encrypted content is not supported with this model.",
        "include",
        {"reasoning": {"effort": "low"}},
    ),
    ({"seed": 3}, "Unknown parameter: 'seed'.", "seed", {}),
    ({"temperature": 1, "max_tokens": 5}, "`temperature` is deprecated for this model.", None, {"max_tokens": 5}),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
        '"output_config.effort" to control thinking behavior.',
        None,
        {"thinking": {"type": "adaptive"}},
    ),
    (
        {"output_config": {"effort": "low", "format": {}}},
        "This model does not support the effort parameter.",
        None,
        {"output_config": {"format": {}}},
    ),
    (
        {"tool_choice": {"type": "any"}},
        "tool_choice: forced tool use is not supported",
        None,
        {"tool_choice": {"type": "auto"}},
    ),
    ({"seed": 1}, "seed: Extra inputs are not permitted", None, {}),
    (
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}, "maxOutputTokens": 5}},
        "400 INVALID_ARGUMENT: Thinking level is not supported for this model.",
        None,
        {"generationConfig": {"maxOutputTokens": 5}},
    ),
    (
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}, "maxOutputTokens": 5}},
        "Budget 0 is invalid. This model only works in thinking mode.",
        None,
        {"generationConfig": {"maxOutputTokens": 5}},
    ),
    # a fault of the caller's, or of what may not be left out
    ({"temperature": 5}, "Invalid 'temperature': decimal above maximum value. Expected <= 2.", "temperature", None),
    (
        {"tools": [], "temperature": 1},
        "Unsupported parameter: 'tools' is not supported with this model.",
        "tools",
        None,
    ),
    ({"text": {"format": {}}}, "Invalid schema: 'allOf' is not permitted.", "text.format.schema", None),
    ({"model": "m"}, "The model `m` does not exist or is not supported", "model", None),
]


@pytest.mark.parametrize(("body", "words", "param", "instead"), CASES, ids=lambda value: str(value)[:60])
def test_a_refused_parameter(
    body: dict[str, Any], words: str, param: str | None, instead: dict[str, Any] | None
) -> None:
    kept = str(body)
    change = change_of(body, words, param)
    assert (None if change is None else changed(body, change)) == instead
    assert str(body) == kept  # the question may be asked elsewhere


def test_what_was_learned_of_efforts_holds_for_others_too() -> None:
    words = "Unsupported value: 'minimal'. Supported values are: 'low' and 'high'."
    change = change_of({"reasoning_effort": "minimal"}, words, "reasoning_effort")
    assert change is not None
    assert [changed({"reasoning_effort": effort}, change) for effort in ("none", "high", "max")] == [
        {"reasoning_effort": "low"},
        {"reasoning_effort": "high"},
        {"reasoning_effort": "high"},
    ]
