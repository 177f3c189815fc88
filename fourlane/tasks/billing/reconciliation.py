"""Reconciliation: a provider's books against ours, for a period, page by page.

1. The provider's pages. Each is compared with our rows of the same ids, whenever those were booked; what was seen is
   remembered in the database.
2. Our pages: a row of the period that the provider did not show is missing there.
3. The end: findings of earlier runs that this one no longer met are resolved.

A page's findings, what it saw and the cursor are one transaction. A run that was killed goes on at its cursor, and
nothing is found twice or passed over; memory holds two pages, however long the period is.

The job's steps are the comparison, the repairs and the message to the channel: a retry does not do again what is done.
Pages may be parted by a deploy. Their cursor is the database's, which the command and other jobs can take up too.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from fourlane.db.setup import database
from fourlane.errors import Reject
from fourlane.names import Tier
from fourlane.providers.health import Target
from fourlane.providers.payments import Books, Page, Period, ProviderError, read_error
from fourlane.providers.setup import books as provider_books
from fourlane.root import root
from fourlane.tasks.billing.errors import InvalidPeriod
from fourlane.tasks.context import current_job
from fourlane.tasks.health import when_well
from fourlane.tasks.steps import resume, step
from fourlane.tasks.task import task
from fourlane.tasks.webhooks.channel import tell_channel

if TYPE_CHECKING:
    from fourlane.db.engine import Database
    from fourlane.tasks.billing.runs import Progress

__all__ = ["PROVIDERS", "Summary", "period_of", "reconcile", "reconcile_period"]

PROVIDERS: Final = ("stripe", "paypal")
MARGIN: Final = timedelta(days=1)
_HOUR_MS: Final = 3_600_000
_PAGES: Final = 10  # after so many the job's journal is told; the database is after each


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a run.

    Parameters:
      found: findings by kind.
      resumed: whether it went on with a run that had not ended.
    """

    run_id: uuid.UUID
    provider: str
    period: Period
    pages: int
    compared: int
    found: dict[str, int]
    repaired: int
    resumed: bool

    def text(self) -> str:
        """One line for a channel."""
        start, end = (moment.strftime("%Y-%m-%d %H:%M %Z") for moment in (self.period.start, self.period.end))
        kinds = ", ".join(f"{number} {kind}" for kind, number in self.found.items()) or "no differences"
        repaired = f", {self.repaired} repaired" if self.repaired else ""
        return f"{self.provider}, {start} to {end}: {self.compared:,} entries compared, {kinds}{repaired}"


def period_of(start: datetime, end: datetime, *, now: datetime) -> Period:
    """Check a period. Raises InvalidPeriod."""
    for name, moment in (("from", start), ("to", end)):
        if moment.tzinfo is None:
            raise InvalidPeriod(f"the period's {name!r} has no time zone; write {moment.isoformat()}+00:00")
    if end <= start:
        raise InvalidPeriod(f"the period ends ({end.isoformat()}) before it starts ({start.isoformat()})")
    if end > now:
        raise InvalidPeriod(f"the period ends ({end.isoformat()}) in the future; its books are not closed")
    return Period(start, end)


@task(
    name="fourlane.billing.reconcile",
    service="billing",
    tier=Tier.P3,
    timeout_ms=6 * _HOUR_MS,
    max_retries=5,
    result_ttl_ms=7 * 24 * _HOUR_MS,
)
def reconcile(
    provider: str, start: str | None = None, end: str | None = None, *, repair: bool = False
) -> dict[str, Any]:
    """Reconcile a period, or yesterday (UTC); post the summary where ``FOURLANE_CHANNEL_URL`` says.

    An error that may pass leads to a retry, which goes on at the page where this attempt stopped.

    Parameters:
      provider: ``stripe`` or ``paypal``.
      start, end: ISO 8601 with a time zone.
      repair: put right what is safe (docs/billing.md).

    Raises:
      Reject: it can never succeed: a wrong key, an impossible period.
      ProviderError: the provider did not answer.
    """
    settings = root().settings
    now = datetime.now(UTC)
    today = _meant_at(now).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        period = period_of(
            datetime.fromisoformat(start) if start else today - timedelta(days=1),
            datetime.fromisoformat(end) if end else today,
            now=now,
        )
    except ValueError as error:
        raise Reject(str(error)) from error
    books = provider_books(settings, provider)
    ours = root().part(database)
    try:
        run_id = uuid.UUID(step.call("compare", _compare, ours, _Guarded(books), period))
        if repair:
            step.call("repair", _repair, ours, run_id)
        summary = _summary(ours, provider, period, run_id)
    except ProviderError as error:
        if error.passing:
            raise
        raise Reject(str(error)) from error
    finally:
        books.close()
    if settings.channel_url is not None:
        step.call("tell", _tell, summary.text())
    return {"run": run_id.hex, "compared": summary.compared, "found": summary.found, "repaired": summary.repaired}


def _compare(database: Database, books: Books, period: Period) -> str:
    return reconcile_period(database, books, period).run_id.hex


def _repair(database: Database, run_id: uuid.UUID) -> None:
    from fourlane.tasks.billing import findings, repairs

    for finding in findings.findings(database, run_id):
        repairs.repair(database, finding, actor="fourlane.billing.reconcile", now=datetime.now(UTC))


def _tell(text: str) -> str:
    return tell_channel.send(text).id


class _Guarded:
    """A provider's books, asked where its health lets a call through."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.provider, self.parts, self.close = books.provider, books.parts, books.close

    def page(self, part: str, period: Period, cursor: dict[str, Any] | None) -> Page:
        """Raises ProviderError, RateLimited."""
        target = Target(self.provider)
        return when_well(target, lambda: self._books.page(part, period, cursor), read=read_error)


def _meant_at(now: datetime) -> datetime:
    """When the job was to run. A retry after midnight is still about the same day."""
    job = current_job()
    if job is None:
        return now
    return job.scheduled_for or datetime.fromtimestamp(job.enqueued_at_ms / 1000, UTC)


def reconcile_period(
    database: Database,
    books: Books,
    period: Period,
    *,
    margin: timedelta = MARGIN,
    on_page: Callable[[Progress], None] | None = None,
) -> Summary:
    """Compare a period's books. In a job, a deploy or a cancel may end it between two pages, to be taken up again.

    Parameters:
      margin: how far beyond the period's edges the provider is read, to tell what is late from what is missing.
      on_page: called after each page that is stored.

    Raises:
      ProviderError: the provider did not give a page. The run can be taken up again.
      RunTaken: another process goes on with it.
    """
    from fourlane.tasks.billing import runs
    from fourlane.tasks.billing.pages import Pages

    run = runs.open_run(database, books.provider, books.parts, period, now=datetime.now(UTC))
    wide = Period(period.start - margin, period.end + margin)
    pages = Pages(database, books, run, period, wide)
    try:
        # Where it goes on is told by the database, in one transaction with what each page brought.
        for _ in resume(lambda _: pages.rest(), cursor="pages", key=lambda done: done, every=_PAGES):
            if on_page is not None:
                on_page(run)
    except ProviderError as error:
        runs.fail(database, run, str(error), final=not error.passing)
        raise
    return _summary(database, books.provider, period, run.id, resumed=run.resumed)


def _summary(database: Database, provider: str, period: Period, run_id: uuid.UUID, *, resumed: bool = False) -> Summary:
    from fourlane.tasks.billing import findings, runs

    row = runs.run_of(database, run_id)
    return Summary(
        run_id=run_id,
        provider=provider,
        period=period,
        pages=row.pages,
        compared=row.compared,
        found=findings.counts(database, run_id),
        repaired=row.repaired,
        resumed=resumed,
    )
