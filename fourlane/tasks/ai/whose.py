"""Whose call it is."""

from __future__ import annotations

from fourlane.errors import InvalidArguments
from fourlane.queues import carry

__all__ = ["whose"]


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
