"""Which budgets a call falls under. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

__all__ = ["EACH", "NANO", "Budget", "applying", "monthly"]

NANO: Final = 1_000_000_000
"""Billionths of a dollar in one: what money is counted in, for a call may cost less than a millionth."""
EACH: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent in a day or a month (UTC), in all, or of a tenant, a task, a model.

    Parameters:
      tenant, task, model: whose; ``*``: each by itself that has no budget of its own of this kind; None: of all.
        Empty, of a tenant: calls without one. A model is named ``provider/model``.
      warn_at: the share from which operators are warned; None: as is said for all.
    """

    usd: Decimal
    per: Literal["day", "month"] = "month"
    tenant: str | None = None
    task: str | None = None
    model: str | None = None
    warn_at: float | None = None

    @property
    def nano(self) -> int:
        return int(Decimal(str(self.usd)) * NANO)

    @property
    def kind(self) -> tuple[object, ...]:
        return (self.per, self.tenant is not None, self.task is not None, self.model is not None)

    def is_of(self, tenant: str, task: str, model: str) -> bool:
        """Whether such a call falls under it, whatever others there are."""
        pairs = ((self.tenant, tenant), (self.task, task), (self.model, model))
        return all(bound in (None, EACH, value) for bound, value in pairs)

    def named(self, tenant: str, task: str, model: str) -> Budget:
        """The same of the one that a call is of."""

        def one(bound: str | None, value: str) -> str | None:
            return value if bound == EACH else bound

        whose = {"tenant": one(self.tenant, tenant), "task": one(self.task, task), "model": one(self.model, model)}
        return Budget(usd=self.usd, per=self.per, warn_at=self.warn_at, **whose)

    def __str__(self) -> str:
        whose = [f"{kind} {name or '-'}" for kind, name in self._whose() if name is not None]
        return f"{', '.join(whose) or 'all calls'} per {self.per}"

    def _whose(self) -> tuple[tuple[str, str | None], ...]:
        return (("tenant", self.tenant), ("task", self.task), ("model", self.model))


def monthly(budgets_usd: Mapping[str, float]) -> list[Budget]:
    """The budgets of tenants by month, as ``budgets_usd`` writes them."""
    return [Budget(tenant=tenant, usd=Decimal(str(usd))) for tenant, usd in budgets_usd.items()]


def applying(budgets: Iterable[Budget], tenant: str, task: str, model: str) -> list[Budget]:
    """Those that a call falls under, with the names of the call. Of one kind the one that names most."""
    found: dict[tuple[object, ...], Budget] = {}
    for budget in budgets:
        if budget.is_of(tenant, task, model):
            other = found.get(budget.kind)
            if other is None or _stars(budget) <= _stars(other):
                found[budget.kind] = budget
    return [budget.named(tenant, task, model) for budget in found.values()]


def _stars(budget: Budget) -> int:
    return [budget.tenant, budget.task, budget.model].count(EACH)
