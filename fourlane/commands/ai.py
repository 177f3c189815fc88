"""``fourlane ai``: what calls would cost."""

from __future__ import annotations

from pathlib import Path

import click

from fourlane.commands.shared import Group, print_json, wants_json

__all__ = ["ai"]


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
