"""The books of paid calls: all is booked once, in budgets, rows and replies alike, whatever befalls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from sqlalchemy import select

import fourlane
from fourlane import State
from fourlane.db import ai_rows
from fourlane.db.engine import Database
from fourlane.db.models import AiOperationLog, Base
from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai import Account, Answer, CutStream, Usage
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import Bound, Budgets, PaidCall
from fourlane.tasks import ai
from fourlane.tasks.ai.checks import check_text
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.money.rows import write_later
from fourlane.tasks.ai.money.spent import compared, month_now, uses
from fourlane.tasks.ai.paid.paying import pay
from fourlane.tasks.ai.paid.work import Asked, NotAccepted, Work
from tests.servers import eventually
from tests.tasks.ai.test_ai import database as database
from tests.worker.conftest import RunWorker

T = TypeVar("T")
KEYS = dict.fromkeys(("openai", "anthropic", "google"), "sk-test")
MOST = Usage(input_tokens=1_000, output_tokens=1_000)
TOOK = Usage(input_tokens=1_000, output_tokens=500)
COST = Decimal("0.0075")  # of gpt-4o


@pytest.fixture
def books(broker: RedisBroker) -> Budgets:
    return Budgets(broker.store)


def config(database: Database | None, **more: Any) -> AiConfig:
    return AiConfig(api_keys=KEYS, database=database, **more)


def says(*answers: Answer | BaseException) -> Asked:
    """A provider that answers so, one call after the other."""
    left = iter(answers)

    async def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Answer:
        one = next(left)
        if isinstance(one, BaseException):
            raise one
        heard(one.text)
        return one

    return ask


def work(*answers: Answer | BaseException, model: str = "gpt-4o") -> Work:
    return Work(operation="generate", model=model, ask=says(*answers), most=MOST)


def paid(given: AiConfig, *answers: Answer | BaseException, model: str = "gpt-4o") -> Awaitable[ai.Reply]:
    return pay(given, work(*answers, model=model), name="x", tenant="acme")


def run(call: Awaitable[T] | Coroutine[Any, Any, T]) -> T:
    async def wait() -> T:
        return await call

    return asyncio.run(wait())


def rows(database: Database) -> list[AiOperationLog]:
    with database.session() as session:
        return list(session.scalars(select(AiOperationLog).order_by(AiOperationLog.created_at)))


def agree(books: Budgets, database: Database) -> int:
    """Accounts, rows and their sums are one; gives back what was spent, in billionths of a dollar."""
    assert all(one.accounts == one.rows for one in compared(books, database, month_now()))
    return books.look("", month_now()).spent


def test_a_refused_answer_and_the_fallbacks_are_both_booked(books: Budgets, database: Database) -> None:
    given = config(database, fallbacks={"gpt-4o": ["openai/gpt-4o-mini"]})
    reply = run(paid(given, Answer(outcome="refused", finish="no", usage=TOOK), Answer(text="ok", usage=TOOK)))
    assert reply["model"] == "openai/gpt-4o-mini"
    refused, good = rows(database)
    assert (refused.outcome, refused.status, good.outcome, good.status) == ("refused", "error", "ok", "ok")
    assert refused.cost_micro_usd == COST * 1_000_000
    assert agree(books, database) == int((COST + Decimal("0.00045")) * 10**9)


def test_each_model_is_asked_under_an_idempotency_key_of_its_own(books: Budgets) -> None:
    keys: list[str] = []

    async def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Answer:
        keys.append(key)
        return Answer(outcome="refused" if len(keys) < 3 else "ok", text="x", finish="stop", usage=TOOK)

    given = config(None, fallbacks={"gpt-4o": ["openai/gpt-4o-mini", "openai/gpt-5:x"]})
    asked = Work(operation="generate", model="gpt-4o", ask=ask, most=MOST)
    run(pay(given, asked, name="x", tenant="acme"))
    assert keys[1:] == [f"{keys[0]}@openai/gpt-4o-mini", f"{keys[0]}@openai/gpt-5:x"]


def test_a_crash_amid_the_fallback_books_the_refused_answer_once(
    broker: RedisBroker, books: Budgets, run_worker: RunWorker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(database, fallbacks={"gpt-4o": ["openai/gpt-4o-mini"]})
    refused, good = Answer(outcome="refused", finish="no", usage=TOOK), Answer(text="ok", usage=TOOK)
    crashes = iter([True, False])
    settle = Budgets.settle

    def settle_unless_it_crashed(self: Budgets, call: Any, nano: int, **more: Any) -> bool:
        return False if call.model.endswith("mini") and next(crashes, False) else settle(self, call, nano, **more)

    monkeypatch.setattr(Budgets, "settle", settle_unless_it_crashed)

    @fourlane.task(result_ttl_ms=10_000, backoff=fourlane.Backoff(1, 1))
    async def report() -> str:
        first = fourlane.current_job().attempt == 1  # type: ignore[union-attr]
        answers = (refused, asyncio.CancelledError()) if first else (good,)
        try:
            return (await paid(given, *answers))["text"]
        except asyncio.CancelledError:
            raise ValueError("it crashed") from None

    run_worker(broker)
    assert report.send().result(20) == "ok"
    whole = books.look("", month_now())
    assert whole.of["model:openai/gpt-4o"] == COST * 10**9
    assert whole.of["model:openai/gpt-4o-mini"] == Decimal("0.00045") * 10**9
    assert list(books.reservations()) == []


def test_what_the_provider_bills_is_booked(books: Budgets, database: Database) -> None:
    usage = Usage(input_tokens=9, cache_read_tokens=4, output_tokens=6, reasoning_tokens=5, billed_usd=COST / 3)
    reply = run(paid(config(database), Answer(text="ok", usage=usage, first_ms=70)))
    [row] = rows(database)
    assert (row.cached_input_tokens, row.reasoning_tokens, row.first_token_ms) == (4, 5, 70)
    assert (row.cost_micro_usd, reply["cost_usd"]) == (Decimal("2500.000"), 0.0025)


def test_an_answer_without_usage_is_estimated_and_says_so(books: Budgets, database: Database) -> None:
    reply = run(paid(config(database), Answer(text="word " * 80)))
    assert (reply["cost_estimated"], reply["cost_known"]) == (True, True)
    assert reply["cost_usd"] == pytest.approx(0.0025 + 108 * 1e-5)
    assert [row.cost_estimated for row in rows(database)] == [True]
    assert agree(books, database) == round(reply["cost_usd"] * 10**9)


def test_each_try_of_a_call_that_broke_off_is_paid_for(books: Budgets, database: Database) -> None:
    cut = CutStream("cut", Answer(text="so", usage=Usage(input_tokens=1_000, output_tokens=100)))
    reply = run(paid(config(database), cut, cut, Answer(text="ok", usage=TOOK)))
    [row] = rows(database)
    assert (row.input_tokens, row.output_tokens) == (3_000, 700)
    assert reply["cost_usd"] == pytest.approx(2 * 0.0035 + 0.0075)
    assert agree(books, database) == 14_500_000


def test_what_broke_off_counts_before_the_next_try(books: Budgets, database: Database) -> None:
    cut = CutStream("cut", Answer(text="so", usage=Usage(input_tokens=1_000, output_tokens=100)))
    given = config(database, budgets_usd={"acme": 0.0155})  # a call may cost 0.0125
    with pytest.raises(Reject, match="the budget of tenant acme per month is spent"):
        run(paid(given, cut, Answer(text="ok", usage=TOOK)))
    assert agree(books, database) == 3_500_000
    assert list(books.reservations()) == []


NOBODY_KNOWS = "openai/nobody-knows"


def test_a_model_without_a_price_does_not_slip_past_a_budget(books: Budgets, database: Database) -> None:
    given = config(database, budgets=[ai.Budget(usd=Decimal(500), per="day")])
    with pytest.raises(Reject, match=r"no price is known for openai/nobody-knows.*unpriced_usd"):
        run(paid(given, Answer(text="ok", usage=TOOK), model=NOBODY_KNOWS))
    ai.configure(given)
    try:
        with pytest.raises(InvalidArguments, match="no price is known for openai/nobody-knows"):
            check_text("hi", model=NOBODY_KNOWS)  # at enqueue
    finally:
        ai.configure(None)
    assert rows(database) == []


def test_a_model_without_a_price_is_booked_at_what_the_settings_say(books: Budgets, database: Database) -> None:
    given = config(database, budgets_usd={"*": 0.05}, unpriced_usd=Decimal("0.02"))
    for _ in range(2):
        reply = run(paid(given, Answer(text="ok", usage=TOOK), model=NOBODY_KNOWS))
        assert (reply["cost_usd"], reply["cost_known"]) == (0.02, False)
    with pytest.raises(Reject, match="is spent"):
        run(paid(given, Answer(text="ok", usage=TOOK), model=NOBODY_KNOWS))
    assert agree(books, database) == 40_000_000
    assert books.look("", month_now()).unpriced == 2
    [use] = uses(books._store, given)
    assert (str(use.budget), use.used, use.refusing) == ("tenant acme per month", 40_000_000, True)


def test_budgets_that_refuse_and_spent_nothing_are_seen(books: Budgets) -> None:
    wanted = [
        ai.Budget(usd=Decimal("0.001"), tenant="*", per="day"),
        ai.Budget(usd=Decimal("0.02"), tenant="acme", per="day"),
        ai.Budget(usd=Decimal(5), model="*"),
    ]
    given = config(None, budgets=wanted, warn_at=0.5)
    for tenant in ("acme", "umbrella", None):
        call = pay(given, work(Answer(text="ok", usage=TOOK)), name="x", tenant=tenant)
        if tenant == "acme":
            run(call)
        else:
            with pytest.raises(Reject, match="per day is spent"):
                run(call)
    told = {str(use.budget): (use.used, use.refusing, use.warn_at) for use in uses(books._store, given)}
    assert told == {
        "tenant umbrella per day": (0, True, 0.5),
        "tenant - per day": (0, True, 0.5),
        "tenant acme per day": (7_500_000, False, 0.5),
        "model openai/gpt-4o per month": (7_500_000, False, 0.5),
    }


def test_what_a_job_holds_that_is_no_more_refuses_nobody(books: Budgets) -> None:
    """Its worker was killed amid the call, and nobody settles: a dollar's hundredth of two is taken, the call may cost
    more than the other."""
    gone = PaidCall("gone", "acme", f"{month_now()}-01", "t", "openai/gpt-4o", service="mail", job="1P7Xgone")
    assert books.reserve(gone, 10_000_000, [Bound(0, "", 20_000_000, 20_000_000)]).over is None
    assert run(paid(config(None, budgets_usd={"acme": 0.02}), Answer(text="ok", finish="stop", usage=TOOK)))
    assert books.look("acme", month_now()).held == {"": 0}


def test_without_a_budget_it_is_called_and_counted(books: Budgets, database: Database) -> None:
    reply = run(paid(config(database), Answer(text="ok", usage=TOOK), model=NOBODY_KNOWS))
    assert (reply["cost_usd"], reply["cost_known"]) == (0.0, False)
    assert (books.look("acme", month_now()).calls, books.look("acme", month_now()).unpriced) == (1, 1)
    assert [row.cost_known for row in rows(database)] == [False]


def test_many_tiny_calls_agree_to_the_cent(books: Budgets, database: Database) -> None:
    given = config(database)
    usage = Usage(input_tokens=3)  # 0.06 millionths of a dollar

    async def many() -> float:
        told = 0.0
        for _ in range(50):
            told += (await paid(given, Answer(text="-", usage=usage), model="openai/text-embedding-3-small"))[
                "cost_usd"
            ]
        return told

    told = run(many())
    assert agree(books, database) == 50 * 60 == round(told * 10**9)


def test_a_row_is_written_later_where_the_database_was_away(
    books: Budgets, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(database)
    AiOperationLog.__table__.drop(database.engine)  # type: ignore[attr-defined]
    run(paid(given, Answer(text="ok", usage=TOOK)))
    with pytest.raises(NotAccepted):
        run(paid(given, Answer(outcome="empty", usage=TOOK)))
    with pytest.raises(RuntimeError):
        run(paid(given, RuntimeError("what else")))
    assert len(books.unwritten()) == 3
    assert write_later(database, books) == 0
    Base.metadata.create_all(database.engine)
    assert write_later(database, books) == 3
    assert write_later(database, books) == 0
    assert sorted(row.outcome or "" for row in rows(database)) == ["empty", "error", "ok"]
    assert agree(books, database) == 2 * 7_500_000


def test_a_job_whose_database_is_away_goes_on_and_is_booked_once(
    broker: RedisBroker, books: Budgets, run_worker: RunWorker, database: Database
) -> None:
    given = config(database, budgets_usd={"acme": 1})
    AiOperationLog.__table__.drop(database.engine)  # type: ignore[attr-defined]

    @fourlane.task(result_ttl_ms=10_000, backoff=fourlane.Backoff(1, 1))
    async def report() -> float:
        reply = await paid(given, Answer(text="ok", usage=TOOK))
        if fourlane.current_job().attempt < 3:  # type: ignore[union-attr]
            raise ValueError("after the call")
        return reply["cost_usd"]

    run_worker(broker)
    assert report.send().result(20) == 0.0075
    assert len(books.unwritten()) == 1
    Base.metadata.create_all(database.engine)
    assert write_later(database, books) == 1
    assert agree(books, database) == 7_500_000


def test_a_job_that_is_cancelled_amid_its_call_pays_for_what_had_come(
    broker: RedisBroker, books: Budgets, run_worker: RunWorker, database: Database
) -> None:
    given = config(database, budgets_usd={"acme": 1})
    began = threading.Event()

    async def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Answer:
        heard("x" * 400)
        began.set()
        await asyncio.sleep(60)
        raise AssertionError

    @fourlane.task
    async def report() -> None:
        await pay(given, Work(operation="generate", model="gpt-4o", ask=ask, most=MOST), name="x", tenant="acme")

    loop = run_worker(broker)
    job = report.send()
    assert began.wait(10)
    assert job.cancel() is State.RUNNING
    loop.told_cancelled({job.id})
    eventually(lambda: job.status() not in (State.RUNNING, State.READY), 10)
    eventually(lambda: rows(database), 10)
    assert agree(books, database) == int((Decimal("0.0025") + 108 * Decimal("0.00001")) * 10**9)
    assert list(books.reservations()) == []


@pytest.mark.parametrize("period", ["2026-11", "2026-11-28", "2026-12"])
def test_sums_of_rows_by_day_and_month(database: Database, period: str) -> None:
    assert ai_rows.spent(database, period) == {}
