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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from fourlane.db.setup import database
from fourlane.errors import FourlaneError, Reject
from fourlane.names import Tier
from fourlane.providers.health import Target
from fourlane.providers.payments import Books, Entry, Page, Period, ProviderError, read_error
from fourlane.providers.setup import books as provider_books
from fourlane.root import root
from fourlane.tasks.billing import differences as rules
from fourlane.tasks.context import current_job
from fourlane.tasks.health import when_well
from fourlane.tasks.steps import resume, step
from fourlane.tasks.task import task

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from fourlane.db.engine import Database
    from fourlane.tasks.billing.books import Progress

__all__ = ["PROVIDERS", "InvalidPeriod", "Summary", "period_of", "reconcile", "reconcile_period"]

PROVIDERS: Final = ("stripe", "paypal")
MARGIN: Final = timedelta(days=1)
_HOUR_MS: Final = 3_600_000
_PAGES: Final = 10  # after so many the job's journal is told; the database is after each


class InvalidPeriod(FourlaneError, ValueError):
    """A period that cannot be reconciled."""


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
        step.call("tell", _tell, settings.channel_url.get_secret_value(), summary.text())
    return {"run": run_id.hex, "compared": summary.compared, "found": summary.found, "repaired": summary.repaired}


def _compare(database: Database, books: Books, period: Period) -> str:
    return reconcile_period(database, books, period).run_id.hex


def _repair(database: Database, run_id: uuid.UUID) -> None:
    from fourlane.tasks.billing import books as ours
    from fourlane.tasks.billing import repairs

    for finding in ours.findings(database, run_id):
        repairs.repair(database, finding, actor="fourlane.billing.reconcile", now=datetime.now(UTC))


def _tell(url: str, text: str) -> str:
    from fourlane.tasks.webhooks.delivery import deliver

    return deliver.send(url, {"text": text}).id


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
    from fourlane.tasks.billing import books as ours

    run = ours.open_run(database, books.provider, period, now=datetime.now(UTC))
    wide = Period(period.start - margin, period.end + margin)
    pages = _Pages(database, books, run, period, wide)
    try:
        # Where it goes on is told by the database, in one transaction with what each page brought.
        for _ in resume(lambda _: pages.rest(), cursor="pages", key=lambda done: done, every=_PAGES):
            if on_page is not None:
                on_page(run)
    except ProviderError as error:
        ours.fail(database, run, str(error), final=not error.passing)
        raise
    return _summary(database, books.provider, period, run.id, resumed=run.resumed)


def _summary(database: Database, provider: str, period: Period, run_id: uuid.UUID, *, resumed: bool = False) -> Summary:
    from fourlane.tasks.billing import books as ours

    row = ours.run_of(database, run_id)
    return Summary(
        run_id=run_id,
        provider=provider,
        period=period,
        pages=row.pages,
        compared=row.compared,
        found=ours.counts(database, run_id),
        repaired=row.repaired,
        resumed=resumed,
    )


class _Pages:
    """One page after another. The cursor says which is next: ``{"phase": "theirs", "part": …, "at": …}``, then
    ``{"phase": "ours", "table": …, "after": …}``, then ``{"phase": "done"}``."""

    def __init__(self, database: Database, books: Books, run: Progress, period: Period, wide: Period) -> None:
        from fourlane.tasks.billing import books as ours

        self.database = database
        self.books = books
        self.run = run
        self.period = period
        self.wide = wide
        self.ours = ours
        self.tables = ours.TABLES.get(books.provider, ours.ALL_TABLES)

    def rest(self) -> Iterator[int]:
        """Store one page after another; the number of those that are done."""
        while self.run.cursor.get("phase") != "done":
            self._next()
            yield self.run.pages

    def _next(self) -> None:
        cursor = self.run.cursor or {"phase": "theirs", "part": self.books.parts[0], "at": None}
        if cursor["phase"] == "theirs":
            self._their_page(cursor["part"], cursor["at"])
        else:
            self._our_page(cursor["table"], cursor["after"])

    # The provider's pages -------------------------------------------------------------------------------------

    def _their_page(self, part: str, at: dict[str, Any] | None) -> None:
        page = self.books.page(part, self.wide, at)
        if page.cursor is not None and page.cursor == at:
            raise ProviderError(f"{self.books.provider}: its page of {part}s leads to itself", passing=False)
        following = self._after(part, page)
        with self.database.begin() as session:
            self.ours.advance(session, self.run, following, compared=len(page.entries))
            new = self.ours.remember(session, self.run, page.entries)
            if page.entries and page.cursor is not None and not new:
                raise ProviderError(
                    f"{self.books.provider}: a page of {part}s repeats what came before it", passing=False
                )
            self.ours.record(session, self.run, self._judge(session, part, page.entries))
        self.ours.mark(self.run, following)

    def _after(self, part: str, page: Page) -> dict[str, Any]:
        if page.cursor is not None:
            return {"phase": "theirs", "part": part, "at": page.cursor}
        parts = self.books.parts
        number = parts.index(part) + 1
        if number < len(parts):
            return {"phase": "theirs", "part": parts[number], "at": None}
        return {"phase": "ours", "table": self.tables[0], "after": None}

    def _judge(self, session: Session, part: str, entries: list[Entry]) -> list[rules.Finding]:
        provider = self.books.provider
        table = {"invoice": "invoices", "subscription": "subscriptions"}.get(part, "credit_transactions")
        refs = [ref for entry in entries for ref in (entry.ref, entry.alias) if ref]
        mine = self.ours.by_refs(session, provider, table, refs)
        if part == "balance":
            seen = self.ours.seen(session, self.run, refs)
            return [
                finding
                for entry in entries
                for finding in rules.moved(
                    provider,
                    entry,
                    [other for other in seen.get(entry.ref, ()) if other.object != "balance"],
                    mine.get(entry.ref, ()),
                    self.period,
                )
            ]
        parents = self.ours.by_refs(session, provider, table, [ref for entry in entries for ref in entry.parent])
        found = [
            finding
            for entry in {entry.ref: entry for entry in entries}.values()
            for finding in rules.differences(
                provider,
                entry,
                [*mine.get(entry.ref, ()), *(mine.get(entry.alias, ()) if entry.alias else ())],
                self.period,
                parent_known=not entry.parent or any(ref in parents for ref in entry.parent),
            )
        ]
        groups = [entry.group for entry in entries if entry.group and entry.status == "succeeded"]
        for charges in self.ours.payments(session, self.run, groups).values():
            found += rules.same_payment(provider, charges, self.period)
        return found

    # Our pages ------------------------------------------------------------------------------------------------

    def _our_page(self, table: str, after: list[str] | None) -> None:
        provider = self.books.provider
        place = None if after is None else (datetime.fromisoformat(after[0]), uuid.UUID(after[1]))
        with self.database.begin() as session:
            page = self.ours.page(session, provider, table, self.period, place)
            following = self._after_ours(table, page)
            self.ours.advance(session, self.run, following, compared=0)
            unseen = self.ours.unseen(session, self.run, [row.ref for row in page])
            found = [rules.missing_there(provider, row) for row in page if row.ref in unseen]
            self.ours.record(session, self.run, [finding for finding in found if finding is not None])
            if following["phase"] == "done":
                self.ours.finish(session, self.run, provider, self.period, now=datetime.now(UTC))
        self.ours.mark(self.run, following)

    def _after_ours(self, table: str, page: list[rules.Ours]) -> dict[str, Any]:
        if len(page) == self.ours.ROWS:
            return {"phase": "ours", "table": table, "after": [page[-1].at.isoformat(), page[-1].id.hex]}
        number = self.tables.index(table) + 1
        if number < len(self.tables):
            return {"phase": "ours", "table": self.tables[number], "after": None}
        return {"phase": "done"}
