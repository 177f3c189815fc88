"""``fourlane ai``: what calls would cost and have cost, and how their providers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fourlane.commands.ai_spending import spending
from fourlane.commands.shared import Group, open_store, print_json, wants_json
from fourlane.commands.text import human_age, table

__all__ = ["ai"]

_NOT_KNOWN = "not known: give FOURLANE_AI a price, or unpriced_usd; no budget lets it pass"


@click.group(cls=Group)
def ai() -> None:
    """AI calls."""


@ai.command()
@click.argument("prompt", required=False)
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Take the prompt from here.")
@click.option("--model", default="gpt-4o", show_default=True, help="A short name, or PROVIDER/MODEL.")
@click.option("--max-tokens", type=click.IntRange(1), default=1_024, show_default=True, help="Of the answer.")
def estimate(prompt: str | None, file: Path | None, model: str, max_tokens: int) -> None:
    """Tell what a call may cost at most. Calls nobody."""
    from fourlane.tasks import ai as calls

    if (prompt is None) == (file is None):
        raise click.UsageError("give a prompt, or --file")
    try:
        text = prompt if file is None else file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise click.ClickException(f"{file} is not UTF-8 text") from None
    assert text is not None
    told = calls.estimate(model, text, max_tokens=max_tokens)
    cost = None if told.cost_usd is None else round(told.cost_usd, 9)
    if wants_json():
        print_json(
            {
                "model": told.model,
                "input_tokens": told.input_tokens,
                "output_tokens": told.output_tokens,
                "cost_usd": cost,
                "cost_known": told.cost_known,
                "prices": calls.prices_source(),
            }
        )
        return
    click.echo(f"model   {told.model}")
    click.echo(f"tokens  about {told.input_tokens:,} in, at most {told.output_tokens:,} out")
    by = "" if told.cost_known else ", which unpriced_usd says: no price is known"
    click.echo(f"cost    {_NOT_KNOWN if cost is None else f'at most ${cost:.6f}{by}'}")
    click.echo(f"prices  {calls.prices_source()}")


ai.add_command(spending)


@ai.command()
def providers() -> None:
    """Tell how the providers are that workers called within a day: AI, messages, payments."""
    from fourlane.queues.guards import ProviderStates
    from fourlane.tasks.ai.config import configured

    config = configured()
    found: list[dict[str, Any]] = []
    with open_store() as store:
        for state in ProviderStates(store).look():
            model, _, key = state.name.rpartition(":")
            rules = config.rules(f"{state.provider}/{model}")
            found.append(
                {
                    "provider": state.provider,
                    "model": model,
                    "key": key,
                    "state": state.state,
                    "failures": state.failures,
                    "opened": state.opened,
                    "wait_ms": state.wait_ms,
                    "requests": state.requests,
                    "requests_per_minute": rules.requests_per_minute,
                    "tokens": state.tokens,
                    "tokens_per_minute": rules.tokens_per_minute,
                }
            )
    if wants_json():
        print_json({"providers": found})
        return
    table(
        ["PROVIDER", "MODEL", "KEY", "BREAKER", "FAILURES", "OPENED", "WAITS", "REQUESTS", "TOKENS"],
        [
            (
                one["provider"], one["model"], one["key"], one["state"], one["failures"], one["opened"],
                human_age(one["wait_ms"]) if one["wait_ms"] else "",
                _of(one["requests"], one["requests_per_minute"]), _of(one["tokens"], one["tokens_per_minute"]),
            )
            for one in found
        ],
        "no provider was called within a day",
    )  # fmt: skip


def _of(used: int, most: int) -> str:
    """What was used of a limit in the last minute; without a limit nothing is counted."""
    return f"{used:,}/{most:,}" if most else ""
