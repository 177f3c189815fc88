"""``fourlane ai``: what calls would cost and have cost, and how their providers are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fourlane.commands.ai_batches import batches
from fourlane.commands.ai_spending import spending
from fourlane.commands.shared import Group, open_store, print_json, wants_json
from fourlane.commands.text import human_age, short_number, table

if TYPE_CHECKING:
    from fourlane.tasks.ai.models.listing import Listed

__all__ = ["ai"]

_NOT_KNOWN = "not known: give FOURLANE_AI a price, or unpriced_usd; no budget lets it pass"
_PROVIDERS: Final = ("openai", "anthropic", "google", "perplexity", "openrouter")


@click.group(cls=Group)
def ai() -> None:
    """AI calls."""


@ai.command()
@click.argument("prompt", required=False)
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Take the prompt from here.")
@click.option("--model", default="gpt-6-luna", show_default=True, help="A short name, or PROVIDER/MODEL.")
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
ai.add_command(batches)


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
    rows = [
        (
            one["provider"], one["model"], one["key"], one["state"], one["failures"], one["opened"],
            human_age(one["wait_ms"]) if one["wait_ms"] else "",
            _of(one["requests"], one["requests_per_minute"]), _of(one["tokens"], one["tokens_per_minute"]),
        )
        for one in found
    ]  # fmt: skip
    heads = ["PROVIDER", "MODEL", "KEY", "BREAKER", "FAILURES", "OPENED", "WAITS", "REQUESTS", "TOKENS"]
    told = [place for place in range(len(heads)) if any(row[place] for row in rows)]  # all would pass 80 columns
    table(
        [heads[place] for place in told],
        [[row[place] for place in told] for row in rows],
        "no provider was called within a day",
    )


def _of(used: int, most: int) -> str:
    """What was used of a limit in the last minute; without a limit nothing is counted."""
    return f"{used:,}/{most:,}" if most else ""


@ai.command()
@click.option("--provider", type=click.Choice(_PROVIDERS), help="Of this one alone.")
@click.option("--all", "everything", is_flag=True, help="Those without a short name too.")
def models(provider: str | None, everything: bool) -> None:
    """List models: prices, context, when each ends, how it is."""
    from fourlane.tasks.ai.config import configured
    from fourlane.tasks.ai.models.listing import listed

    found = listed(configured(), provider=provider or "", everything=everything)
    health = _health()
    if wants_json():
        print_json({"models": [_as_json(one, health.get(one.full, "")) for one in found]})
        return
    table(
        ["NAME", "PROVIDER", "$ A MILLION", "CONTEXT", "ENDS", "HEALTH"],
        [
            (one.model if one.name == one.full else one.name, one.provider, _price(one), short_number(one.context),
             one.end and one.end.on, health.get(one.full, ""))
            for one in found
        ],
        "there are none",
    )  # fmt: skip
    for one in found:
        if one.name not in (one.full, one.model):
            click.echo(f"{one.name} is {one.full}")


def _health() -> dict[str, str]:
    """How models are that were called within a day, under whichever key; nothing where Redis is away."""
    from fourlane.errors import RedisUnavailable
    from fourlane.queues.guards import ProviderStates

    found: dict[str, str] = {}
    try:
        with open_store() as store:
            states = ProviderStates(store).look()
    except RedisUnavailable as error:
        click.echo(f"how they are is not known: {error}", err=True)
        return {}
    for state in states:
        word = "ok" if state.state == "closed" else state.state
        if state.wait_ms:
            word = f"{'waits' if word == 'ok' else word} {human_age(state.wait_ms)}"
        full = f"{state.provider}/{state.name.rpartition(':')[0]}"
        if found.get(full, "ok") == "ok":  # under another key it may be worse
            found[full] = word
    return found


def _price(one: Listed) -> str:
    if one.minute_usd:
        return f"{one.minute_usd:g}/min"
    if one.input_usd is None:
        return ""
    return f"{one.input_usd:g}" + (f" / {one.output_usd:g}" if one.output_usd else "")


def _as_json(one: Listed, health: str) -> dict[str, Any]:
    end = one.end and {"date": str(one.end.on), "successor": one.end.successor}
    return {
        "name": one.name, "provider": one.provider, "model": one.full, "kind": one.kind,
        "input_usd": one.input_usd, "output_usd": one.output_usd, "minute_usd": one.minute_usd,
        "context": one.context, "most_output": one.most_output, "end_of_life": end, "health": health or None,
    }  # fmt: skip
