"""Whose call it is, and under which name what it costs is booked."""

from __future__ import annotations

import re
from typing import Final

from fourlane.errors import InvalidArguments
from fourlane.queues import carry

__all__ = ["NOBODY", "account_name", "tenant_of", "whose"]

NOBODY: Final = "-"
"""The account of calls that have no tenant."""
_LIKE_NOBODY: Final = re.compile(r"%(25)*2D")


def whose(tenant: str | None) -> str | None:
    """Whose budget and files: of the job's tenant, which its arguments may only repeat; of a job without one, and
    outside of any, whom they name.

    Raises:
      InvalidArguments: they name another than the job's.
    """
    if tenant is not None and not isinstance(tenant, str):
        raise InvalidArguments(f"tenant: text, not {type(tenant).__name__}")
    checked = carry.checked_tenant.get()
    owner = carry.current_tenant() if checked is None else checked
    if owner and tenant and tenant != owner:
        raise InvalidArguments(f"the job is of tenant {owner!r}; leave tenant out or say the same, not {tenant!r:.100}")
    return owner or tenant or None


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
