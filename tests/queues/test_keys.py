"""The catalogue of keys."""

from __future__ import annotations

import pytest

from fourlane.queues.keys import Catalogue, EnvironmentKeys, KnownKey, ServiceKeys


def test_the_catalogue_has_every_key() -> None:
    catalogue = Catalogue("a.b")
    keys, environment = ServiceKeys("a.b", "local", "mail"), EnvironmentKeys("a.b", "local")
    made = [key for value in vars(keys).values() for key in (value if isinstance(value, list) else [value])]
    made += [key for key in vars(environment).values() if isinstance(key, bytes)]
    made += [
        keys.result("1.a:b"),
        keys.output("1a"),
        keys.log("1a"),
        keys.cancelled("1a"),
        keys.progress("1a"),
        keys.once("k"),
    ]
    made += [keys.latest("k"), keys.places("k"), *keys.taken(1), keys.claim("1a"), keys.runs("a:b")]
    made += [environment.health("openai", "gpt-4o:k1"), environment.spent("acme", "2026-11"), environment.tries("m")]
    made += [environment.spent("", "2026-11-28"), environment.reservations, environment.unwritten]
    made += [environment.group("g"), environment.health_sent("openai"), environment.budgets_sent]
    made += [environment.tries_sent(), keys.leased("w:1")]
    for key in (key + b"o" if key.endswith(b"sent:") else key for key in made if isinstance(key, bytes)):
        assert catalogue.read(key.decode()) is not None, key


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("a.b:{local:mail}:leased:w:1", KnownKey("local", "mail", "leased:w:1", "set")),
        ("a.b:{local:mail}:ready:3", KnownKey("local", "mail", "ready:3", "list")),
        ("a.b:{prod:events.sqs}:tries:m", KnownKey("prod", "events.sqs", "tries:m", "hash")),
        ("a.b:prod:services", KnownKey("prod", "", "services", "set")),
        ("x", None),
        ("a.b:x", None),
        ("aXb:prod:services", None),
        ("a.b:{local:mail}:ready:4", None),
        ("a.b:{local:mail}:jobsx", None),
        ("a.b:{local:mail}:services", None),
        ("a.b:local:jobs", None),
    ],
)
def test_a_key_is_read(key: str, known: KnownKey | None) -> None:
    assert Catalogue("a.b").read(key) == known
