"""``fourlane ai``: what calls would cost and have cost, and how their providers are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from fourlane.commands.ai_batches import batches
from fourlane.commands.shared import Group, open_store, print_json, wants_json
from fourlane.commands.text import human_age, table

__all__ = ["ai"]


@click.group(cls=Group)
def ai() -> None:
    """AI calls."""


ai.add_command(batches)


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
    cost = None if told.cost_usd is None else round(told.cost_usd, 6)
    if wants_json():
        print_json(
            {
                "model": told.model,
                "input_tokens": told.input_tokens,
                "output_tokens": told.output_tokens,
                "cost_usd": cost,
                "prices": calls.prices_source(),
            }
        )
        return
    click.echo(f"model   {told.model}")
    click.echo(f"tokens  about {told.input_tokens:,} in, at most {told.output_tokens:,} out")
    click.echo(f"cost    {'not known: give a price in FOURLANE_AI' if cost is None else f'at most ${cost:.6f}'}")
    click.echo(f"prices  {calls.prices_source()}")


@ai.command()
@click.option("--tenant", help="Only this one, by model and task; - for calls without one.")
@click.option("--month", help="Like 2026-11; this month by default.")
def spending(tenant: str | None, month: str | None) -> None:
    """Tell what tenants have spent in a month, beside their budgets."""
    from fourlane.queues.guards import Budgets
    from fourlane.tasks.ai.budgets import dollars, month_now

    month = month or month_now()
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise click.BadParameter(f"{month!r} is no month; write it as 2026-11", param_hint="--month")
    with open_store() as store:
        budgets = Budgets(store)
        tenants = budgets.tenants(month) if tenant is None else [tenant]
        found = {name: dollars(name, budgets.look(name, month)) for name in tenants}
    if wants_json():
        print_json({"month": month, "tenants": found})
    elif tenant is None:
        table(
            ["TENANT", "SPENT", "RESERVED", "BUDGET", "USED"],
            [(name, *_money(told), _used(told)) for name, told in found.items()],
            f"nothing was spent in {month}",
        )
    else:
        table(
            ["OF", "USD"],
            [(name, f"{usd:.6f}") for name, usd in sorted(found[tenant].items())],
            f"{tenant} spent nothing in {month}",
        )


def _money(told: dict[str, float]) -> list[str]:
    return [f"{told[name]:.4f}" if name in told else "" for name in ("spent", "reserved", "budget")]


def _used(told: dict[str, float]) -> str:
    budget = told.get("budget")
    return f"{100 * (told.get('spent', 0) + told.get('reserved', 0)) / budget:.0f} %" if budget else ""


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
