"""Payment providers."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from fourlane.config.groups.deployment import DeploymentSettings
from fourlane.config.values import Switch

__all__ = ["PaymentSettings"]


_ACCOUNT: Final = re.compile(r"own|acct_[A-Za-z0-9]+")


def _check_accounts(names: str) -> str:
    parts = [name.strip() for name in names.split(",")]
    for name in parts:
        if not _ACCOUNT.fullmatch(name):
            raise ValueError(f"{name!r} is no account; write own, or ids that begin with acct_, commas between them")
    if len(set(parts)) < len(parts):
        raise ValueError("names an account twice; name each once")
    return ",".join(parts)


class PaymentSettings(DeploymentSettings):
    stripe_secret_key: SecretStr | None = Field(None, validation_alias="STRIPE_SECRET_KEY")
    stripe_publishable_key: str | None = Field(None, validation_alias="STRIPE_PUBLISHABLE_KEY")
    stripe_url: str | None = None
    """Another address for Stripe's API, e.g. of a stand-in."""
    stripe_accounts: Annotated[str, AfterValidator(_check_accounts)] = "own"
    """Whose books are reconciled, commas between them: ``own`` is the key's account, others are connected to it."""
    stripe_order_key: str = ""
    """The field of a charge's metadata that names what it paid for: two charges for one thing are a finding."""
    paypal_client_id: str | None = Field(None, validation_alias="PAYPAL_CLIENT_ID")
    paypal_client_secret: SecretStr | None = Field(None, validation_alias="PAYPAL_CLIENT_SECRET")
    paypal_sandbox: Switch = False
    """Use PayPal's sandbox."""
    paypal_url: str | None = None
    """Another address for PayPal's API."""
