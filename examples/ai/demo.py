"""AI calls in ``make run``: to three providers' SDKs, all answered by a stand-in here, one of them limited.

The worker must know ``settings()`` and serve ``fourlane.tasks.ai``, as that of ``examples.deliveries`` does.
"""

from __future__ import annotations

import json
from collections import Counter

from examples.ai.provider import Provider

COUNT = 30
MODELS = ("gpt-6-luna", "claude-haiku-5.5", "gemini-3.8-flash")
PORT = 18_417


def settings() -> dict[str, str]:
    """What the worker needs to know: the stand-in's address, keys that open nothing, what to do when OpenAI is full."""
    keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_AI_API_KEY"), "sk-demo")
    config = {
        "base_urls": Provider(port=PORT).base_urls,
        "fallbacks": {"gpt-6-luna": ["claude-haiku-5.5"]},
        "budgets_usd": {"demo": 5},
    }
    return keys | {"FOURLANE_AI": json.dumps(config)}


def ai_calls() -> None:
    """Send the calls, wait for them, tell what they cost and who answered."""
    from fourlane.tasks import ai

    with Provider(latency_seconds=0.3, rpm=6, port=PORT) as provider:
        jobs = [
            ai.generate.send(f"Question {number}", model=MODELS[number % 3], tenant="demo", max_tokens=200)
            for number in range(COUNT)
        ]
        print(f"\nsent {COUNT} AI calls to three providers; OpenAI allows 6 a minute, the rest goes to Claude")
        replies = [job.result(60) for job in jobs]
        for model, count in sorted(Counter(reply["model"] for reply in replies).items()):
            print(f"  {model:<28} {count:>3} answers")
        spent = ai.spending("demo")
        print(f"  cost ${spent['spent']:.6f} of a budget of $5; refused by the provider {provider.limited}")
        print(f"  first answer, as it was streamed: {''.join(piece.text for piece in jobs[0].stream(timeout=5))}")
