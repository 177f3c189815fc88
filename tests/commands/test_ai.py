"""``fourlane ai``."""

from __future__ import annotations

import json

from tests.command import Command
from tests.command import command as command


def test_an_estimate_of_an_ai_call(command: Command) -> None:
    told = command("--json", "ai", "estimate", "Hello there", "--max-tokens", "100")
    assert json.loads(told.stdout) | {"prices": ""} == {
        "model": "openai/gpt-4o", "input_tokens": 10, "output_tokens": 100, "cost_usd": 0.001025,
        "cost_known": True, "prices": "",
    }  # fmt: skip
    for arguments in (["x", "--model", "gpt-9"], [], ["x", "--max-tokens", "0"]):
        refused = command("ai", "estimate", *arguments)
        assert refused.returncode != 0
        assert "Traceback" not in refused.stderr
    assert "'gpt-9' is no model" in command("ai", "estimate", "x", "--model", "gpt-9").stderr


def test_an_estimate_without_a_price(command: Command) -> None:
    none = command("ai", "estimate", "x", "--model", "openai/nobody-knows")
    assert "cost    not known: give FOURLANE_AI a price, or unpriced_usd" in none.stdout
    said = command("ai", "estimate", "x", "--model", "openai/nobody-knows", FOURLANE_AI='{"unpriced_usd": 0.02}')
    assert "cost    at most $0.020000, which unpriced_usd says: no price is known" in said.stdout
