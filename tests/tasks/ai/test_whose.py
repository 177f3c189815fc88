"""Accounts of tenants whose names are like that of nobody."""

from __future__ import annotations

import pytest

from fourlane.tasks.ai.whose import account_name, tenant_of


@pytest.mark.parametrize(
    ("tenant", "account"),
    [("", "-"), ("acme", "acme"), ("-", "%2D"), ("%2D", "%252D"), ("%252D", "%25252D"), ("%20a", "%20a"), ("--", "--")],
)
def test_each_tenant_has_an_account_of_its_own(tenant: str, account: str) -> None:
    assert account_name(tenant) == account
    assert tenant_of(account) == tenant
