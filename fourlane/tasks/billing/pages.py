"""The pages of a reconciliation: what one brought, what is wrong with it, and the cursor, in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.providers.payments import Books, Entry, Page, Period, ProviderError
from fourlane.tasks.billing import differences as rules
from fourlane.tasks.billing import findings, rows, runs, seen
from fourlane.tasks.billing.balance import moved
from fourlane.tasks.billing.paid_twice import overpaid, same_payment
from fourlane.tasks.billing.runs import Progress

__all__ = ["Pages"]

_TABLES: Final = {"invoice": "invoices", "subscription": "subscriptions"}


class Pages:
    """One page after another. The cursor says which is next: ``{"phase": "theirs", "part": …, "at": …}``, then
    ``{"phase": "ours", "table": …, "after": …}``, then ``{"phase": "done"}``."""

    def __init__(self, database: Database, books: Books, run: Progress, period: Period, wide: Period) -> None:
        self.database = database
        self.books = books
        self.run = run
        self.period = period
        self.wide = wide
        self.tables = rows.tables_of(books.provider)

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

    def _their_page(self, part: str, at: dict[str, Any] | None) -> None:
        page = self.books.page(part, self.wide, at)
        if page.cursor is not None and page.cursor == at:
            raise ProviderError(f"{self.books.provider}: its page of {part}s leads to itself", passing=False)
        following = self._after(part, page)
        with self.database.begin() as session:
            runs.advance(session, self.run, following, compared=len(page.entries))
            new = seen.remember(session, self.run, page.entries)
            if page.entries and page.cursor is not None and not new:
                raise ProviderError(
                    f"{self.books.provider}: a page of {part}s repeats what came before it", passing=False
                )
            findings.record(session, self.run, self._judge(session, page.entries))
        runs.mark(self.run, following)

    def _after(self, part: str, page: Page) -> dict[str, Any]:
        if page.cursor is not None:
            return {"phase": "theirs", "part": part, "at": page.cursor}
        parts = self.books.parts
        number = parts.index(part) + 1
        if number < len(parts):
            return {"phase": "theirs", "part": parts[number], "at": None}
        return {"phase": "ours", "table": self.tables[0], "after": None}

    def _judge(self, session: Session, entries: list[Entry]) -> list[rules.Finding]:
        kind = entries[0].object if entries else ""  # a page has one, but for PayPal's, which are all transactions
        if kind == "balance":
            return self._of_balance(session, entries)
        if kind == "invoice_payment":
            return [finding for entry in entries for finding in overpaid(self.books.provider, entry, self.period)]
        return self._of_rows(_TABLES.get(kind, "credit_transactions"), session, entries)

    def _of_balance(self, session: Session, entries: list[Entry]) -> list[rules.Finding]:
        provider, refs = self.books.provider, _refs(entries)
        mine = rows.by_refs(session, provider, "credit_transactions", refs)
        met = seen.under(session, self.run, refs)
        return [
            finding
            for entry in entries
            for finding in moved(
                provider,
                entry,
                [other for other in met.get(entry.ref, ()) if other.object != "balance"],
                _under(entry, mine),
                self.period,
            )
        ]

    def _of_rows(self, table: str, session: Session, entries: list[Entry]) -> list[rules.Finding]:
        provider = self.books.provider
        mine = rows.by_refs(session, provider, table, _refs(entries))
        parents = rows.by_refs(session, provider, table, [ref for entry in entries for ref in entry.parent])
        found = [
            finding
            for entry in {entry.ref: entry for entry in entries}.values()
            for finding in rules.differences(
                provider,
                entry,
                _under(entry, mine),
                self.period,
                parent_known=not entry.parent or any(ref in parents for ref in entry.parent),
            )
        ]
        groups = [entry.group for entry in entries if entry.group and entry.status == "succeeded"]
        for charges in seen.payments(session, self.run, groups).values():
            found += same_payment(provider, charges, self.period)
        return found

    def _our_page(self, table: str, after: list[str] | None) -> None:
        provider = self.books.provider
        place = None if after is None else (datetime.fromisoformat(after[0]), uuid.UUID(after[1]))
        with self.database.begin() as session:
            page = rows.page(session, provider, table, self.period, place)
            following = self._after_ours(table, page)
            runs.advance(session, self.run, following, compared=0)
            left = seen.unseen(session, self.run, [row.ref for row in page])
            found = [rules.missing_there(provider, row) for row in page if row.ref in left]
            findings.record(session, self.run, [finding for finding in found if finding is not None])
            if following["phase"] == "done":
                runs.finish(session, self.run, provider, self.period, now=datetime.now(UTC))
        runs.mark(self.run, following)

    def _after_ours(self, table: str, page: list[rules.Ours]) -> dict[str, Any]:
        if len(page) == rows.ROWS:
            return {"phase": "ours", "table": table, "after": [page[-1].at.isoformat(), page[-1].id.hex]}
        number = self.tables.index(table) + 1
        if number < len(self.tables):
            return {"phase": "ours", "table": self.tables[number], "after": None}
        return {"phase": "done"}


def _refs(entries: list[Entry]) -> list[str]:
    return [ref for entry in entries for ref in (entry.ref, entry.alias) if ref]


def _under(entry: Entry, mine: dict[str, list[rules.Ours]]) -> list[rules.Ours]:
    """Our rows under its ids."""
    return [*mine.get(entry.ref, ()), *(mine.get(entry.alias, ()) if entry.alias else ())]
