"""Webhooks that come in: what their senders sign with, where from and how many."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from fourlane.config.groups.payments import PaymentSettings
from fourlane.config.values import ZeroOrMore, json_object, or_say

__all__ = ["WebhookSettings"]

_NETWORKS_FIX: Final = 'write {"stripe": ["3.18.12.63/32"]}'


def _check_networks(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        networks = validate(value)
        for name in (name for names in networks.values() for name in names):
            ip_network(name)
    except ValidationError:
        raise ValueError(f"does not name networks by provider; {_NETWORKS_FIX}") from None
    except ValueError as error:
        raise ValueError(f"cannot be read: {error}; {_NETWORKS_FIX}") from None
    return networks


class WebhookSettings(PaymentSettings):
    """PayPal signs by a certificate of its live or sandbox API, and may be asked whether it did."""

    stripe_webhook_secrets: SecretStr | None = None
    """Signing secrets of our endpoint at Stripe, ``whsec_…``, with commas between them while one is being replaced."""
    paypal_webhook_id: SecretStr | None = None
    """The id of our webhook at PayPal; a part of what PayPal signs."""
    paypal_webhook_way: Annotated[
        Literal["offline", "postback", "lookup"], or_say("no way; use offline, postback or lookup")
    ] = "offline"
    """Check PayPal's signature here, ask PayPal, or check it and take the event from PayPal."""
    supabase_webhook_secrets: SecretStr | None = None
    """What database webhooks carry in x-webhook-secret; with commas between several."""
    supabase_hook_secrets: SecretStr | None = None
    """Secrets of auth hooks, ``v1,whsec_…``; with | between several, as Supabase writes them."""
    webhook_allow_from: Annotated[dict[str, list[str]], WrapValidator(_check_networks), json_object(_NETWORKS_FIX)] = (
        Field(default_factory=dict)
    )
    """Networks that a provider may call from, as a JSON object: {"stripe": ["3.18.12.63/32"]}."""
    webhook_rate: ZeroOrMore = 3_000
    """How many webhooks a minute one address may send to one provider's path; 0: no bound."""
    webhook_proxies: ZeroOrMore = 0
    """How many of our proxies add to X-Forwarded-For before a webhook arrives; 0: the header is not believed."""
