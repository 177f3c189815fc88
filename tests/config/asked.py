"""What the tests of settings set and ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourlane.config import Settings, load_settings
from fourlane.errors import SettingsError

SECRETS = {
    "REDIS_URL": "rediss://user:hush@redis.example:6380/2",
    "DATABASE_URL": "postgresql://user:hush@db.example:5432/fourlane?password=hush",
    "STRIPE_SECRET_KEY": "sk_hush",
    "PAYPAL_CLIENT_SECRET": "paypal_hush",
    "OPENAI_API_KEY": "openai_hush",
    "ANTHROPIC_API_KEY": "anthropic_hush",
    "GOOGLE_AI_API_KEY": "google://hush",
    "PERPLEXITY_API_KEY": "perplexity_hush",
    "OPENROUTER_API_KEY": "openrouter_hush",
    "SUPABASE_SERVICE_ROLE_KEY": "role_hush",
}
PUBLIC = {
    "STRIPE_PUBLISHABLE_KEY": "pk_shown",
    "PAYPAL_CLIENT_ID": "paypal_shown",
    "NEXT_PUBLIC_SUPABASE_URL": "https://shown.supabase.co",
}


def write(environment: str, *lines: str) -> None:
    Path(f".env.{environment}").write_text("\n".join(lines))


def faults(**overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    return str(caught.value).splitlines()


def described(settings: Settings) -> dict[str, tuple[str, str]]:
    return {variable: (shown, source) for variable, shown, source in settings.describe()}
