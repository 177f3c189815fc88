"""Whose call it is."""

from __future__ import annotations

from fourlane.tasks.context import current_job

__all__ = ["whose"]


def whose(tenant: str | None) -> str | None:
    """Whose budget and files: the tenant that is named, else that of the job that runs here."""
    job = current_job()
    return tenant or (job.tenant if job is not None else "") or None
