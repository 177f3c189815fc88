"""``fourlane ai``."""

from __future__ import annotations

import json

from tests.command import Command
from tests.command import command as command


def test_an_estimate_of_an_ai_call(command: Command) -> None:
    told = command("--json", "ai", "estimate", "Hello there", "--max-tokens", "100")
    assert json.loads(told.stdout) | {"prices": ""} == {
        "model": "openai/gpt-6-luna", "input_tokens": 10, "output_tokens": 100, "cost_usd": 5.1e-05,
        "cost_known": True, "prices": "",
    }  # fmt: skip
    for arguments in (["x", "--model", "gpt-9"], [], ["x", "--max-tokens", "0"]):
        refused = command("ai", "estimate", *arguments)
        assert refused.returncode != 0
        assert "Traceback" not in refused.stderr
    assert "'gpt-9' is no model" in command("ai", "estimate", "x", "--model", "gpt-9").stderr


def test_models_are_listed_with_what_is_known_of_them(command: Command) -> None:
    command.env |= {
        "FOURLANE_AI": json.dumps(
            {"models": {"fast": "openai/gpt-6-luna"}, "end_of_life": {"openai/gpt-6-luna": "2031-01-01"}}
        )
    }
    words = command("ai", "models").stdout.splitlines()
    assert max(map(len, words)) <= 80
    assert words[0].split() == ["NAME", "PROVIDER", "$", "A", "MILLION", "CONTEXT", "ENDS", "HEALTH"]
    assert any(line.split() == ["fast", "openai", "0.1", "/", "0.5", "1.05M", "2031-01-01", "-"] for line in words)
    assert "dall-e-3 is openai/gpt-image-2.5-flare" in words
    of_google = json.loads(command("ai", "models", "--provider", "google", "--json").stdout)["models"]
    assert {one["provider"] for one in of_google} == {"google"}
    everything = json.loads(command("ai", "models", "--all", "--json").stdout)["models"]
    assert len(everything) > 500
    [one] = [one for one in everything if one["name"] == "claude-haiku-4.5"]
    assert one == {
        "name": "claude-haiku-4.5", "provider": "anthropic", "model": "anthropic/claude-haiku-4-5", "kind": "text",
        "input_usd": 1.0, "output_usd": 5.0, "minute_usd": None, "context": 200_000, "most_output": 64_000,
        "end_of_life": None, "health": None,
    }  # fmt: skip


def test_models_that_end_are_told_by_the_doctor(command: Command) -> None:
    command.env |= {"FOURLANE_AI": json.dumps({"fallbacks": {"gpt-6-luna": ["openai/dall-e-3"]}})}
    assert "openai/dall-e-3 was retired on 2026-05-12; use openai/gpt-image-2.5-flare" in command("doctor").stdout


def test_an_estimate_without_a_price(command: Command) -> None:
    none = command("ai", "estimate", "x", "--model", "openai/nobody-knows")
    assert "cost    not known: give FOURLANE_AI a price, or unpriced_usd" in none.stdout
    said = command("ai", "estimate", "x", "--model", "openai/nobody-knows", FOURLANE_AI='{"unpriced_usd": 0.02}')
    assert "cost    at most $0.020000, which unpriced_usd says: no price is known" in said.stdout
