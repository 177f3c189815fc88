"""Whose call it is, and under which name what it costs is booked."""

from __future__ import annotations

import re
from typing import Final

from fourlane.tasks.context import current_job

__all__ = ["NOBODY", "account_name", "tenant_of", "whose"]

NOBODY: Final = "-"
"""The account of calls that have no tenant."""
_LIKE_NOBODY: Final = re.compile(r"%(25)*2D")


def whose(tenant: str | None) -> str | None:
    """Whose budget and files: the tenant that is named, else that of the job that runs here."""
    job = current_job()
    return tenant or (job.tenant if job is not None else "") or None


def account_name(tenant: str | None) -> str:
    """The name of a tenant's account: its own, but for that of a tenant ``-``, which is ``%2D``."""
    if not tenant:
        return NOBODY
    if tenant == NOBODY:
        return "%2D"
    return f"%25{tenant[1:]}" if _LIKE_NOBODY.fullmatch(tenant) else tenant


def tenant_of(account: str) -> str:
    """The tenant whose account it is; empty: of none."""
    if account in (NOBODY, "%2D"):
        return "" if account == NOBODY else NOBODY
    return f"%{account[3:]}" if _LIKE_NOBODY.fullmatch(account) else account
