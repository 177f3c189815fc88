"""What ``fourlane doctor`` says of the outbox: does it move, what failed, and who has nearly too much in it?"""

from __future__ import annotations

from typing import Final

from fourlane.db import migrate
from fourlane.db.engine import Database
from fourlane.errors import DatabaseUnavailable
from fourlane.outbox import browse
from fourlane.outbox.browse import Fill, Late, Summary
from fourlane.queues.doctor import NEAR, Finding, Level

__all__ = ["examine_outbox", "findings_of"]

_NAME: Final = "outbox"
_LATE_SECONDS: Final = 60
_NAMED: Final = 3


def examine_outbox(database: Database) -> list[Finding]:
    """Look at the outbox of a database. Raises nothing: a finding tells what cannot be asked."""
    try:
        if any(state.word == "pending" for state in migrate.status(database)):
            return [Finding(Level.WARN, _NAME, "its tables are not up to date", "fourlane db migrate")]
        return findings_of(
            browse.summary(database),
            browse.late_services(database, _LATE_SECONDS),
            browse.reasons(database, _NAMED),
            browse.fullest(database),
        )
    except DatabaseUnavailable as error:
        return [Finding(Level.WARN, _NAME, f"cannot be looked at: {error}")]


def findings_of(found: Summary, late: list[Late], reasons: list[tuple[str, int]], fullest: list[Fill]) -> list[Finding]:
    """What is to be said of what was seen."""
    findings: list[Finding] = []
    age_ms = found.oldest_age_ms or 0
    if age_ms > _LATE_SECONDS * 1000:
        some = ", ".join(f"{one.service} ({one.waiting:,})" for one in late[:_NAMED])
        text = f"{found.pending:,} row(s) wait, the oldest for {age_ms / 1000:,.0f} s; of the services {some}"
        findings.append(Finding(Level.WARN, _NAME, text, "docs/runbooks/outbox-lag.md"))
    if found.failed:
        some = "; ".join(f"{number:,} × {reason:.200}" for reason, number in reasons)
        text = f"{found.failed:,} row(s) failed, {found.newly_failed:,} of them within 30 minutes: {some}"
        findings.append(Finding(Level.WARN, _NAME, text, "docs/runbooks/outbox-failing.md"))
    for fill in fullest:
        if fill.share >= NEAR:
            text = (
                f"organization {fill.organization_id} has {fill.rows:,} of {fill.most_rows:,} rows and "
                f"{fill.bytes:,} of {fill.most_bytes:,} bytes waiting; beyond that its members are refused"
            )
            findings.append(Finding(Level.WARN, _NAME, text, "is that right? Then raise its row in outbox_quotas"))
    text = f"{found.pending:,} row(s) wait, none for long, and none failed"
    if found.held:
        text += f"; {found.held:,} are not due for long"
    return findings or [Finding(Level.OK, _NAME, text)]
