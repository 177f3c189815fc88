"""The commands, by the real program."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from sqlalchemy import select

from examples.billing.standins import PayPal, Stripe
from fourlane.db.models import Invoice
from tests.command import Command
from tests.tasks.billing.conftest import Ours, at

pytestmark = pytest.mark.timeout(300)  # many processes, each slow to start where the machine is busy
JANUARY = ("--from", "2026-01-01", "--to", "2026-02-01")


@pytest.fixture
def command(tmp_path: Path, lite: Ours, stripe: Stripe, paypal: PayPal) -> Command:
    return Command(
        tmp_path,
        DATABASE_URL=f"sqlite:///{tmp_path}/test.db",
        STRIPE_SECRET_KEY=stripe.key,
        FOURLANE_STRIPE_URL=stripe.url,
        PAYPAL_CLIENT_ID="id",
        PAYPAL_CLIENT_SECRET="secret",
        FOURLANE_PAYPAL_URL=paypal.url,
    )


def plant(stripe: Stripe, lite: Ours) -> None:
    stripe.charge("ch_1", 1999, at(3), "jpy")
    stripe.invoice("in_1", 4900, at(4))
    lite.invoice("in_1", 4900, at(4), "open", amount_paid_minor=4900)


def test_reconcile_in_words_json_and_files(command: Command, stripe: Stripe, lite: Ours, tmp_path: Path) -> None:
    plant(stripe, lite)
    done = command("billing", "reconcile", "--provider", "stripe", *JANUARY, "--report", "out.csv")
    assert done.returncode == 0, done.stderr
    assert "2026-01-01 00:00 UTC to 2026-02-01 00:00 UTC: 3 entries compared, 1 missing_here, 1 status" in done.stdout
    assert "1999 JPY" in done.stdout
    with (tmp_path / "out.csv").open() as file:
        rows = {row["kind"]: row for row in csv.DictReader(file)}
    assert (rows["missing_here"]["provider_amount_minor"], rows["missing_here"]["provider_currency"]) == ("1999", "JPY")
    assert rows["status"]["our_status"] == "open"

    again = command("billing", "reconcile", "--provider", "stripe", *JANUARY, "--report", "out.json", "--json")
    told = json.loads(again.stdout)
    assert told["found"] == {"missing_here": 1, "status": 1}
    assert json.loads((tmp_path / "out.json").read_text()) == told["findings"]
    listed = json.loads(command("billing", "runs", "--json").stdout)["runs"]
    assert [run["status"] for run in listed] == ["done", "done"]
    shown = json.loads(command("billing", "findings", told["run"], "--json").stdout)["findings"]
    assert {row["kind"] for row in shown} == {"missing_here", "status"}


def test_no_cell_is_a_formula(command: Command, stripe: Stripe, lite: Ours, tmp_path: Path) -> None:
    """Ids are what others named them."""
    for n, ref in enumerate(['=HYPERLINK("http://evil")', "+1", "-1", "@SUM(A1)", "\t=1", "plain"]):
        lite.payment(ref, n, at(3))
    call = ("billing", "reconcile", "--provider", "stripe", *JANUARY, "--report")
    assert command(*call, "out.csv").returncode == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        refs = {row["provider_id"] for row in csv.DictReader(file)}
    assert refs == {'\'=HYPERLINK("http://evil")', "'+1", "'-1", "'@SUM(A1)", "'\t=1", "plain"}
    assert (tmp_path / "out.csv").stat().st_mode & 0o077 == 0
    assert command(*call, "out.json").returncode == 0
    assert "+1" in {row["provider_id"] for row in json.loads((tmp_path / "out.json").read_text())}


@pytest.mark.parametrize(
    ("accounts", "fault"), [("acct 1", "'acct 1' is no account"), ("own,", "'' is no account"), ("own,own", "twice")]
)
def test_accounts_that_are_none(command: Command, accounts: str, fault: str) -> None:
    done = command("billing", "reconcile", "--provider", "stripe", *JANUARY, FOURLANE_STRIPE_ACCOUNTS=accounts)
    assert done.returncode == 1
    assert fault in done.stderr


def test_repairs_are_shown_asked_for_and_made(command: Command, stripe: Stripe, lite: Ours) -> None:
    plant(stripe, lite)
    call = ("billing", "reconcile", "--provider", "stripe", *JANUARY, "--repair")
    dry = command(*call, "--dry-run")
    assert "would set status of invoices" in dry.stdout

    def status() -> str:
        with lite.database.begin() as session:
            return session.scalars(select(Invoice.status)).one()

    unasked = command(*call)
    assert (unasked.returncode, status()) == (2, "open")
    assert "say --yes" in unasked.stderr
    done = command(*call, "--yes")
    assert "repaired 1, left 0" in done.stdout
    assert status() == "paid"
    assert "nothing that is safe to repair" in command(*call, "--yes").stdout


def test_a_day_in_a_time_zone(command: Command, paypal: PayPal, lite: Ours) -> None:
    """29 March 2026 has 23 hours in Berlin: from 23:00 UTC of the day before to 22:00 UTC."""
    day = at(1 + 31 + 28 + 28, 0)
    for hour in (-2, -1, 0, 21, 22):
        paypal.transaction(f"H{hour}", "1.00", at(1 + 31 + 28 + 28, hour))
    assert (day.month, day.day) == (3, 29)
    call = ("billing", "reconcile", "--provider", "paypal", "--from", "2026-03-29", "--timezone", "Europe/Berlin")
    done = command(*call, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["from"], told["to"]) == ("2026-03-28T23:00:00+00:00", "2026-03-29T22:00:00+00:00")
    assert sorted(row["provider_id"] for row in told["findings"]) == ["H-1", "H0", "H21"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--from", "2026-02-01", "--to", "2026-01-01"), "ends (2026-01-01T00:00:00+00:00) before it starts"),
        (("--from", "2026-01-01", "--to", "2999-01-01"), "in the future"),
        (("--from", "last week"), "'last week' is no date; write 2026-01-31"),
        (("--from", "2026-01-01", "--timezone", "Mars/Base"), "'Mars/Base' is not known; write one such as"),
        (("--report", "out.xls"), "must end with .csv or .json"),
        (("--dry-run",), "goes with --repair"),
        ((*JANUARY, "--report", "nowhere/out.csv"), "nowhere/out.csv: cannot be written: No such file"),
    ],
)
def test_mistakes_in_a_line(command: Command, args: tuple[str, ...], message: str) -> None:
    done = command("billing", "reconcile", "--provider", "stripe", *args)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"STRIPE_SECRET_KEY": ""}, "STRIPE_SECRET_KEY is not set"),
        ({"STRIPE_SECRET_KEY": "sk_wrong"}, "the key is refused; set STRIPE_SECRET_KEY"),
        ({"DATABASE_URL": "sqlite:///empty.db"}, "run `fourlane db migrate`"),
        (
            {"DATABASE_URL": "", "FOURLANE_ENVIRONMENT": "production"},
            "DATABASE_URL: is not set, and production needs it",
        ),
    ],
)
def test_a_place_that_is_not_set_up(command: Command, env: dict[str, str], message: str) -> None:
    done = command("billing", "reconcile", "--provider", "stripe", *JANUARY, REDIS_URL="redis://127.0.0.1:1", **env)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_does_not_exist(command: Command) -> None:
    assert "no run's id" in command("billing", "findings", "x").stderr
    assert "there is no run" in command("billing", "findings", "0" * 32).stderr
