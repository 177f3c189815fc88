"""What a program that only enqueues reads of its settings: as all of them would be read, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourlane.config import load_settings, plain
from fourlane.queues.opening import opening_here, opening_of
from fourlane.root import Root

URL = {"REDIS_URL": "redis://h:1/2"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REDIS_URL", "FOURLANE_NAMESPACE", "FOURLANE_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("said", "is_plain"),
    [
        (URL, True),
        (URL | {"FOURLANE_ENVIRONMENT": "production", "FOURLANE_NAMESPACE": "shop", "FOURLANE_SERVICE": "mail"}, True),
        ({"redis_url": "redis://h", "fourlane_namespace": "shop"}, True),  # names are read in any case
        (URL | {"DATABASE_URL": "postgresql://h/d"}, True),  # of the platform, and not needed here
        (URL | {"FOURLANE_NAMESPACE": "a-b"}, False),  # right, but not plainly
        (URL | {"FOURLANE_ENVIRONMENT": "preview"}, False),  # another word for staging
        (URL | {"FOURLANE_RESULT_TTL_MS": "5000"}, False),  # more is set
    ],
)
def test_it_is_what_all_the_settings_say(said: dict[str, str], is_plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert (plain.read() is not None) == is_plain
    assert opening_here(Root()) == opening_of(load_settings())


@pytest.mark.parametrize(
    "said",
    [
        {},  # there may be an embedded server
        {"REDIS_URL": "h:1"},
        URL | {"FOURLANE_ENVIRONMENT": "mars"},
        URL | {"FOURLANE_NAMESPACE": ""},
        URL | {"FOURLANE_SERVICE": "no service"},
        URL | {"FOURLANE_SLOTS": "none"},
        URL | {"FOURLANE_NO_SETTING": "1"},
    ],
)
def test_faults_are_left_to_who_tells_them(said: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert plain.read() is None


def test_a_file_is_left_to_who_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://h")
    Path(".env.local").write_text("FOURLANE_SERVICE=mail")
    assert plain.read() is None
    assert opening_here(Root()).defaults.service == "mail"


def test_settings_that_were_given_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://h")
    assert opening_here(Root(load_settings(namespace="given"))).namespace == "given"
