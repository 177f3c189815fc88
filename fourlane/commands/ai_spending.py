"""``fourlane ai spending``: what calls have cost, beside the budgets and beside the rows of the database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fourlane.commands.shared import open_store, print_json, wants_json
from fourlane.commands.text import table

if TYPE_CHECKING:
    from fourlane.queues.guards import Account, Budgets
    from fourlane.tasks.ai.money.spent import Use

__all__ = ["spending"]

_MOST_TENANTS = 1_000
_MOST_BUDGETS = 20
_KINDS = ("tenant", "task", "model")


@click.command()
@click.option("--tenant", help="Only this one; - for calls without one.")
@click.option("--month", help="Like 2026-11; this month by default.")
@click.option("--day", help="Like 2026-11-28.")
@click.option("--task", help="Only what went to this task.")
@click.option("--model", help="Only what went to this PROVIDER/MODEL.")
@click.option("--by", type=click.Choice(_KINDS), help="One table: by tenant, task or model.")
@click.option("--check", is_flag=True, help="Compare with ai_operation_logs; exit 1 where a cent differs.")
def spending(
    tenant: str | None,
    month: str | None,
    day: str | None,
    task: str | None,
    model: str | None,
    by: str | None,
    check: bool,
) -> None:
    """Tell what AI calls have cost in a month or on a day (UTC), beside the budgets."""
    from fourlane.queues.guards import ALL, Budgets
    from fourlane.tasks.ai.config import configured
    from fourlane.tasks.ai.money.spent import dollars, reserved_of, uses

    period = _period(month, day)
    with open_store() as store:
        budgets = Budgets(store)
        if check:
            _check(budgets, period)
            return
        budgets.sweep(int(time.time() * 1000))  # what dead jobs hold
        names = {f"{kind}:{name}" for kind, name in (("task", task), ("model", model)) if name is not None}
        if tenant is not None or names:
            whole = budgets.look(ALL if tenant is None else tenant, period)
            held = reserved_of(budgets, period)
            found = _plain(whole) if tenant is None else dollars(budgets, tenant, period, held)
            _tell_parts(tenant, period, {name: usd for name, usd in found.items() if not names or name in names}, by)
            return
        _tell_all(budgets, period, by or "tenant", [] if month or day else uses(store, configured()))


def _period(month: str | None, day: str | None) -> str:
    from fourlane.tasks.ai.money.spent import is_period, month_now

    if month is not None and day is not None:
        raise click.UsageError("give --month or --day")
    period = day or month or month_now()
    if not is_period(period) or (len(period) == len("2026-11")) != (day is None):
        kind, form, option = ("day", "2026-11-28", "--day") if day else ("month", "2026-11", "--month")
        raise click.BadParameter(f"{period!r} is no {kind}; write it as {form}", param_hint=option)
    return period


def _plain(account: Account) -> dict[str, float]:
    from fourlane.tasks.ai.config import NANO

    return {name: nano / NANO for name, nano in account.of.items()} | {"spent": account.spent / NANO}


def _tell_parts(tenant: str | None, period: str, found: dict[str, float], by: str | None) -> None:
    """What went to each task and model."""
    if by is not None:
        found = {name: usd for name, usd in found.items() if name.startswith(f"{by}:")}
    if wants_json():
        print_json({"month": period, "tenants": {tenant or "*": found}})
        return
    rows = [(name, f"{usd:.6f}") for name, usd in sorted(found.items())]
    table(
        ["OF", "USD"],
        rows,
        f"nothing of it was spent in {period}" if tenant is None else f"{tenant} spent nothing in {period}",
    )


def _tell_all(budgets: Budgets, period: str, by: str, used: list[Use]) -> None:
    """What all have spent, and how the budgets stand now."""
    from fourlane.queues.guards import ALL
    from fourlane.tasks.ai.config import NANO
    from fourlane.tasks.ai.money.spent import by_name, dollars, reserved_of

    account = budgets.look(ALL, period)
    names = [name for name, _ in by_name(account, by)]
    if by == "tenant":
        reserved = reserved_of(budgets, period)
        names = [*names[:_MOST_TENANTS], *sorted(reserved.keys() - set(names))]
        found = {name: dollars(budgets, name, period, reserved) for name in names}
    else:
        found = {name: {"spent": nano / NANO} for name, nano in by_name(account, by)}
    if wants_json():
        told = {"month": period, f"{by}s": found, "calls": account.calls, "unpriced_calls": account.unpriced}
        print_json(told | {"budgets": [_as_json(use) for use in used]})
        return
    columns = ("spent", "reserved", "budget", "used")[: 4 if by == "tenant" else 1]
    rows = [(name, *_money(told, columns)) for name, told in found.items()]
    table([word.upper() for word in (by, *columns)], rows, f"nothing was spent in {period}")
    if account.unpriced:
        click.echo(f"{account.unpriced:,} {'call' if account.unpriced == 1 else 'calls'} without a price")
    if used:
        click.echo()
        rows = [(str(use.budget), *_stands(use)) for use in used[:_MOST_BUDGETS]]
        table(["BUDGET", "USED", "OF", "SHARE", ""], rows, "")
        if len(used) > _MOST_BUDGETS:
            click.echo(f"and {len(used) - _MOST_BUDGETS:,} that are less full; --json has all")


def _money(told: dict[str, float], columns: Sequence[str]) -> list[str]:
    budget = told.get("budget")
    used = f"{100 * (told['spent'] + told['reserved']) / budget:.0f} %" if budget else ""
    return [used if one == "used" else f"{told[one]:.4f}" if one in told else "" for one in columns]


def _stands(use: Use) -> list[str]:
    from fourlane.tasks.ai.config import NANO

    refusing = "refuses" if use.refusing else " "
    return [f"{use.used / NANO:.4f}", f"{use.budget.nano / NANO:.2f}", f"{use.share:.0%}", refusing]


def _as_json(use: Use) -> dict[str, Any]:
    from fourlane.tasks.ai.config import NANO

    return {
        "budget": str(use.budget),
        "used_usd": use.used / NANO,
        "usd": use.budget.nano / NANO,
        "refusing": use.refusing,
    }


def _check(budgets: Budgets, period: str) -> None:
    """Say where the accounts and the rows differ."""
    from fourlane.tasks.ai.config import NANO, configured
    from fourlane.tasks.ai.money.spent import compared

    database = configured().database
    if database is None:
        raise click.UsageError('there are no rows to compare with: set "log_rows" in FOURLANE_AI')
    found = compared(budgets, database, period)
    waiting = len(budgets.unwritten())
    wrong = [one for one in found if not one.agrees]
    if wants_json():
        rows = {one.tenant: {"spent": one.accounts / NANO, "rows": one.rows / NANO} for one in found}
        print_json({"month": period, "tenants": rows, "rows_to_write": waiting, "agree": not wrong})
    else:
        lines = [
            (one.tenant, f"{one.accounts / NANO:.6f}", f"{one.rows / NANO:.6f}", "ok" if one.agrees else "differs")
            for one in found
        ]
        table(["TENANT", "SPENT", "ROWS", ""], lines, f"nothing was spent in {period}")
        if waiting:
            click.echo(f"{waiting:,} rows wait to be written")
    if wrong:
        raise SystemExit(1)
