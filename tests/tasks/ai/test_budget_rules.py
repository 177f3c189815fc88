"""Which budgets a call falls under."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fourlane.tasks.ai.money.budget_rules import Budget, applying, monthly


def of(usd: float, **whose: str) -> Budget:
    return Budget(usd=Decimal(str(usd)), **whose)  # type: ignore[arg-type]


ALL = [
    *monthly({"acme": 50, "*": 5}),
    of(1, tenant="*", per="day"),
    of(2, tenant="acme", per="day"),
    of(100, task="fourlane.ai.image"),
    of(30, model="openai/gpt-6-sol"),
    of(3, task="*", per="day"),
    of(500, per="day"),
]


@pytest.mark.parametrize(
    ("tenant", "task", "model", "found"),
    [
        ("acme", "t", "p/m", {"tenant acme per month": 50, "tenant acme per day": 2, "task t per day": 3}),
        ("umbrella", "t", "p/m", {"tenant umbrella per month": 5, "tenant umbrella per day": 1, "task t per day": 3}),
        ("", "t", "p/m", {"tenant - per month": 5, "tenant - per day": 1, "task t per day": 3}),
        (
            "acme",
            "fourlane.ai.image",
            "openai/gpt-6-sol",
            {
                "tenant acme per month": 50,
                "tenant acme per day": 2,
                "task fourlane.ai.image per month": 100,
                "task fourlane.ai.image per day": 3,
                "model openai/gpt-6-sol per month": 30,
            },
        ),
    ],
)
def test_all_budgets_of_a_call(tenant: str, task: str, model: str, found: dict[str, float]) -> None:
    told = {str(budget): float(budget.usd) for budget in applying(ALL, tenant, task, model)}
    assert told == found | {"all calls per day": 500}


def test_without_any() -> None:
    assert applying(monthly({"acme": 50}), "umbrella", "t", "p/m") == []
