"""Providers on bad days, processes that are killed, and periods that are large."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import event, insert, select

import fourlane
from examples.billing.standins import PayPal, Reply, Stripe
from fourlane.db.models import CreditTransaction, ReconciliationFinding, ReconciliationRun
from fourlane.providers.payments import Period, ProviderError
from fourlane.providers.paypal import PayPalApi, PayPalBooks
from fourlane.providers.stripe import StripeBooks
from fourlane.tasks.billing import findings, runs, seen
from fourlane.tasks.billing.reconciliation import reconcile_period
from tests.tasks.billing.conftest import JANUARY, Ours, at

FAULTS = {
    "429": Reply(429, b'{"error":{"type":"rate_limit_error","message":"slow down"}}'),
    "429 with a time": Reply(429, b'{"error":{"message":"slow down"}}', {"Retry-After": "1"}),
    "500": Reply(500, b'{"error":{"message":"oh no"}}'),
    "502 with a page": Reply(502, b"<html>Bad gateway</html>", {"content-type": "text/html"}),
    "cut": Reply(200, b'{"object":"list","data":[{"id":"ch_0000","obj' + b" " * 200, cut=40),
    "malformed": Reply(200, b'{"object":"list","data":[{"id":'),
    "not JSON": Reply(200, b"OK"),
}


def plant(stripe: Stripe, ours: Ours, number: int = 450) -> list[tuple[str, str]]:
    """Some pages, and every 50th missing here; returns what is to be found."""
    for n in range(number):
        when = at(1 + n % 31, n % 24, n % 60)
        stripe.charge(f"ch_{n:04}", 100 + n, when)
        if n % 50:
            ours.payment(f"ch_{n:04}", 100 + n, when)
    for n in range(5):
        ours.payment(f"ch_ours_{n}", 100, at(3 + n))
    return sorted(
        [("missing_here", f"ch_{n:04}") for n in range(0, number, 50)]
        + [("missing_there", f"ch_ours_{n}") for n in range(5)]
    )


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_costs_nothing(lite: Ours, stripe: Stripe, stripe_books: StripeBooks, name: str) -> None:
    expected = plant(stripe, lite, 150)
    stripe.faults = [FAULTS[name], None, None, FAULTS[name], FAULTS[name]]
    reconcile_period(lite.database, stripe_books, JANUARY)
    assert lite.findings() == expected


@pytest.mark.parametrize("name", FAULTS)
def test_paypals_faults_pass_too(lite: Ours, paypal: PayPal, paypal_books: PayPalBooks, name: str) -> None:
    paypal.transaction("T1", "9.00", at(10))
    paypal.faults = [None, FAULTS[name], FAULTS[name]]
    reconcile_period(lite.database, paypal_books, JANUARY)
    assert lite.findings() == [("missing_here", "T1")]


def test_a_provider_that_hangs(lite: Ours, stripe: Stripe, paypal: PayPal) -> None:
    expected = plant(stripe, lite, 20)
    never = threading.Event()
    stripe.faults = [Reply(hang=never)]
    paypal.faults = [None, Reply(hang=never)]
    hasty = StripeBooks(stripe.key, base_url=stripe.url, timeout_seconds=0.3)
    reconcile_period(lite.database, hasty, JANUARY)
    hasty.close()
    assert lite.findings() == expected
    api = PayPalApi("id", "secret", base_url=paypal.url, timeout_seconds=0.3, allow_private=True)
    reconcile_period(lite.database, PayPalBooks(api), JANUARY)
    never.set()


def test_a_run_goes_on_where_the_provider_left_it(ours: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    expected = plant(stripe, ours)
    stripe.faults = [None, None, *[FAULTS["500"]] * 4]
    with pytest.raises(ProviderError, match="HTTP 500: oh no") as caught:
        reconcile_period(ours.database, stripe_books, JANUARY)
    assert caught.value.passing
    with ours.database.begin() as session:
        [run] = session.scalars(select(ReconciliationRun)).all()
    assert (run.status, run.pages, run.error) == ("running", 2, "stripe: HTTP 500: oh no")

    before = len(stripe.requests)
    summary = reconcile_period(ours.database, stripe_books, JANUARY)
    assert (summary.resumed, summary.run_id) == (True, run.id)
    assert "starting_after" in stripe.requests[before]  # not from the beginning
    assert ours.findings() == expected


def test_a_wrong_key_says_what_to_do(lite: Ours, stripe: Stripe, paypal: PayPal, stripe_books: StripeBooks) -> None:
    expected = plant(stripe, lite, 20)
    wrong = StripeBooks("sk_wrong", base_url=stripe.url)
    with pytest.raises(ProviderError, match="set STRIPE_SECRET_KEY") as caught:
        reconcile_period(lite.database, wrong, JANUARY)
    wrong.close()
    assert not caught.value.passing
    assert "sk_wrong" not in str(caught.value)
    reconcile_period(lite.database, stripe_books, JANUARY)
    assert lite.findings() == expected
    api = PayPalApi("id", "wrong", base_url=paypal.url, allow_private=True)
    with pytest.raises(ProviderError, match="check PAYPAL_CLIENT_ID"):
        reconcile_period(lite.database, PayPalBooks(api), JANUARY)
    assert len(paypal.requests) == 1  # asked once: again would not help


def test_a_token_that_was_revoked_is_fetched_anew(lite: Ours, paypal: PayPal, paypal_books: PayPalBooks) -> None:
    paypal.transaction("T1", "9.00", at(10))
    paypal.faults = [None, Reply(401, b'{"name":"AUTHENTICATION_FAILURE"}')]
    reconcile_period(lite.database, paypal_books, JANUARY)
    assert lite.findings() == [("missing_here", "T1")]


def test_a_page_that_repeats_is_an_error_and_no_endless_loop(
    lite: Ours, stripe: Stripe, stripe_books: StripeBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plant(stripe, lite)
    answer = stripe.answer
    monkeypatch.setattr(
        stripe, "answer", lambda path, query, headers: answer(path, query | {"starting_after": "ch_0000"}, headers)
    )
    stripe.charge("ch_0000", 1, at(31, 23))
    with pytest.raises(ProviderError, match=r"page of charges (repeats|leads to itself)"):
        reconcile_period(lite.database, stripe_books, JANUARY)
    monkeypatch.setattr(stripe, "answer", answer)
    stripe.lists["charges"].pop()
    stripe.lists["balance_transactions"].pop()
    reconcile_period(lite.database, stripe_books, JANUARY)  # once the provider is well
    assert lite.findings() == expected


def test_pages_that_go_in_a_circle(
    lite: Ours, stripe: Stripe, stripe_books: StripeBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(stripe, lite)
    answer = stripe.answer

    def circle(path: str, query: dict[str, str], headers: dict[str, str]) -> Any:
        status, page = answer(path, query, headers)
        if len(stripe.requests) == 3:  # the third page is the first again, with an end of its own
            _, page = answer(path, {key: value for key, value in query.items() if key != "starting_after"}, headers)
            page["data"] = page["data"][:50]
        return status, page

    monkeypatch.setattr(stripe, "answer", circle)
    with pytest.raises(ProviderError, match="page of charges repeats what came before it"):
        reconcile_period(lite.database, stripe_books, JANUARY)


@pytest.mark.parametrize(
    ("home", "step"),
    [(seen, "remember"), (findings, "record"), (seen, "under"), (seen, "unseen"), (runs, "finish")],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_page_is_stored_whole_or_not_at_all(
    lite: Ours, stripe: Stripe, stripe_books: StripeBooks, monkeypatch: pytest.MonkeyPatch, home: ModuleType, step: str
) -> None:
    """As if the process died after each of the steps of a page's transaction."""
    expected = plant(stripe, lite, 250)
    done = getattr(home, step)
    calls = 0

    def die(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        result = done(*args, **kwargs)
        if calls <= 2:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(home, step, die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            reconcile_period(lite.database, stripe_books, JANUARY)
    assert reconcile_period(lite.database, stripe_books, JANUARY).resumed
    assert lite.findings() == expected


def test_a_page_that_cannot_be_read(lite: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    stripe.faults = [Reply(body=b'{"object":"list","data":[{"id":"ch_1","object":"charge"}],"has_more":false}')]
    with pytest.raises(ProviderError, match="a charge that cannot be read"):
        reconcile_period(lite.database, stripe_books, JANUARY)


def test_two_at_once_do_not_both_go_on(ours: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    expected = plant(stripe, ours)
    ends: list[str] = []
    both = threading.Barrier(2, timeout=10)

    def run() -> None:
        mine = StripeBooks(stripe.key, base_url=stripe.url)
        both.wait()
        try:
            reconcile_period(ours.database, mine, JANUARY)
            ends.append("done")
        except runs.RunTaken:
            ends.append("taken")
        finally:
            mine.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert "done" in ends
    assert ours.findings() == expected
    with ours.database.begin() as session:
        assert len(session.scalars(select(ReconciliationRun)).all()) == ends.count("done")


def test_a_month_beside_one_of_its_days(lite: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    """Neither resolves what the other found meanwhile."""
    expected = plant(stripe, lite, 150)
    day = Period(at(1, 0), at(2, 0))

    def run_the_day(progress: runs.Progress) -> None:
        if progress.pages == 2:
            other = StripeBooks(stripe.key, base_url=stripe.url)
            reconcile_period(lite.database, other, day)
            other.close()

    for _ in range(2):
        reconcile_period(lite.database, stripe_books, JANUARY, on_page=run_the_day)
        assert lite.findings() == expected


def test_an_old_run_is_not_taken_up(lite: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    expected = plant(stripe, lite, 150)
    stripe.faults = [None, *[FAULTS["500"]] * 4]
    with pytest.raises(ProviderError):
        reconcile_period(lite.database, stripe_books, JANUARY)
    with lite.database.begin() as session:
        [run] = session.scalars(select(ReconciliationRun)).all()
        run.started_at -= timedelta(days=2)
    assert not reconcile_period(lite.database, stripe_books, JANUARY).resumed
    assert lite.findings() == expected


CHILD = """
import sys
from datetime import datetime
from fourlane.db.engine import open_database
from fourlane.providers.payments import Period
from fourlane.providers.stripe import StripeBooks
from fourlane.tasks.billing.reconciliation import reconcile_period
database, url, key, start, end = sys.argv[1:]
period = Period(datetime.fromisoformat(start), datetime.fromisoformat(end))
reconcile_period(open_database(database), StripeBooks(key, base_url=url), period)
"""


def test_killed_again_and_again_nothing_is_found_twice_or_missed(ours: Ours, stripe: Stripe) -> None:
    """SIGKILL at requests, and at other moments: in the middle of a page's transaction as well."""
    expected = plant(stripe, ours)
    url = (
        ours.database.engine.url.render_as_string(hide_password=False).replace("+psycopg2", "").replace("+pysqlite", "")
    )
    arguments = [
        sys.executable,
        "-c",
        CHILD,
        url,
        stripe.url,
        stripe.key,
        *(m.isoformat() for m in (JANUARY.start, JANUARY.end)),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(fourlane.__file__).parents[1])}
    kills, child = 0, None

    def kill(number: int) -> None:
        nonlocal kills
        # Every third request; some at once, some while the child works on the answer.
        if number % 3 == 0 and kills < 4 and child is not None:
            kills += 1
            delay = [0, 0.004, 0.012, 0.03][kills - 1]
            threading.Timer(delay, lambda pid=child.pid: os.kill(pid, signal.SIGKILL)).start()  # type: ignore[misc]

    stripe.on_request = kill
    codes = []
    for _ in range(10):
        child = subprocess.Popen(arguments, env=environment)
        codes.append(child.wait(60))
        if codes[-1] == 0:
            break
    assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) >= 3, codes
    assert ours.findings() == expected
    with ours.database.begin() as session:
        [run] = session.scalars(select(ReconciliationRun)).all()
        found = session.scalars(select(ReconciliationFinding)).all()
    assert (run.status, run.found) == ("done", len(expected))
    assert {row.last_run_id for row in found} == {run.id}


@pytest.mark.timeout(300)  # a third of a minute, or a whole one where others run beside
def test_many_transactions_in_bounded_memory(lite: Ours, paypal: PayPal, paypal_books: PayPalBooks) -> None:
    number = 30_000
    rows = []
    for n in range(number):
        when = at(1) + timedelta(seconds=n * 80)
        paypal.transaction(f"T{n:016}", "19.99", when)
        if n % 10_000:
            rows.append(
                {
                    "organization_id": lite.organization,
                    "credit_account_id": lite.account,
                    "kind": "purchase",
                    "credits": 1,
                    "amount_minor": 1999,
                    "currency": "USD",
                    "provider": "paypal",
                    "provider_transaction_id": f"T{n:016}",
                    "occurred_at": when,
                }
            )
    with lite.database.begin() as session:
        session.execute(insert(CreditTransaction.__table__), rows)
    del rows

    sizes: list[int] = []
    started = time.monotonic()
    summary = reconcile_period(lite.database, paypal_books, JANUARY, on_page=lambda _: sizes.append(_resident_mb()))
    assert summary.compared == number
    assert lite.findings() == [("missing_here", f"T{n:016}") for n in range(0, number, 10_000)]
    # The stand-in is in this process too; what must not happen is growth with the number of pages.
    early, late = max(sizes[10:40]), max(sizes[-30:])
    print(f"{number:,} in {time.monotonic() - started:.1f} s, {len(sizes)} pages, {early} MB early, {late} MB late")
    assert late - early < 5, (early, late)


def test_what_a_run_has_seen_is_looked_up_by_its_keys(lite: Ours, paypal: PayPal, paypal_books: PayPalBooks) -> None:
    """Else each page reads all that came before it, and a run of many pages never ends."""
    asked: set[tuple[str, tuple[Any, ...]]] = set()

    def watch(_: Any, __: Any, sql: str, parameters: Any, *___: Any) -> None:
        if sql.startswith("SELECT") and "FROM reconciliation_seen" in sql:
            asked.add((sql, tuple(parameters)))

    for n in range(3):
        paypal.transaction(f"T{n:016}", "19.99", at(2))
    event.listen(lite.database.engine, "before_cursor_execute", watch)
    reconcile_period(lite.database, paypal_books, JANUARY)
    event.remove(lite.database.engine, "before_cursor_execute", watch)
    assert asked
    with lite.database.begin() as session:
        for sql, parameters in asked:
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
            assert not [step for step in plan if "(run_id=?)" in step[3] or "SCAN" in step[3]], (sql, plan)


def _resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_048_576
