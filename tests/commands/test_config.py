"""``fourlane config``."""

from __future__ import annotations

import pytest

from tests.commands.conftest import Run


def test_config_hides_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_secret")
    for words in (["config"], ["config", "--json"]):
        told = run(*words).stdout
        assert "FOURLANE_SLOTS" in told
        assert "sk_live_secret" not in told
