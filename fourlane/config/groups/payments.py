"""Payment providers."""

from __future__ import annotations

from pydantic import Field, SecretStr

from fourlane.config.groups.deployment import DeploymentSettings
from fourlane.config.values import Switch

__all__ = ["PaymentSettings"]


class PaymentSettings(DeploymentSettings):
    stripe_secret_key: SecretStr | None = Field(None, validation_alias="STRIPE_SECRET_KEY")
    stripe_publishable_key: str | None = Field(None, validation_alias="STRIPE_PUBLISHABLE_KEY")
    stripe_url: str | None = None
    """Another address for Stripe's API, e.g. of a stand-in."""
    paypal_client_id: str | None = Field(None, validation_alias="PAYPAL_CLIENT_ID")
    paypal_client_secret: SecretStr | None = Field(None, validation_alias="PAYPAL_CLIENT_SECRET")
    paypal_sandbox: Switch = False
    """Use PayPal's sandbox."""
    paypal_url: str | None = None
    """Another address for PayPal's API."""
