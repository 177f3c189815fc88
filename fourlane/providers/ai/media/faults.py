"""Errors of calls that are no conversation, said as those of conversations are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fourlane.providers.ai.accounts import Account
from fourlane.providers.ai.errors import told

__all__ = ["said_clearly"]


@contextmanager
def said_clearly(account: Account) -> Iterator[None]:
    """What an SDK raises, unless its words hold a secret or do not say what to do."""
    try:
        yield
    except Exception as error:
        fault = told(error, account.provider)
        if fault is error:
            raise
        raise fault from None
