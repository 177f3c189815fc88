"""Who handles an event without a job: one at a time, and not again once it is done."""

from __future__ import annotations

import time

from fourlane.queues.claims import Claim, Claims
from fourlane.queues.store import Store
from fourlane.queues.taken import Accepting, accept

DAY = 86_400


def test_one_at_a_time(store: Store) -> None:
    claims, client, key = Claims(store), store.connector.client, store.service("mail").claim("1.e")
    assert claims.claim("mail", "1.e", "me", 60_000) is Claim.MINE
    assert claims.claim("mail", "1.e", "me", 90_000) is Claim.MINE, "it lasts on"
    assert 60_000 < client.pttl(key) <= 90_000
    assert claims.claim("mail", "1.e", "you", 60_000) is Claim.OTHERS
    claims.release("mail", "1.e", "you")
    assert claims.claim("mail", "1.e", "you", 60_000) is Claim.OTHERS, "it was not this one's to give up"
    claims.release("mail", "1.e", "me")
    assert claims.claim("mail", "1.e", "you", 60_000) is Claim.MINE


def test_what_is_done_is_not_done_again(store: Store) -> None:
    claims, client, key = Claims(store), store.connector.client, store.service("mail").claim("1.e")
    claims.claim("mail", "1.e", "you", 60_000)
    claims.done("mail", "1.e", "me")  # whose claim had run out meanwhile
    assert client.get(key) == b"you"
    assert claims.claim("mail", "1.e", "you", 60_000) is Claim.DONE
    claims.done("mail", "1.e", "you")
    assert not client.exists(key)
    [days] = client.keys(f"{store.namespace}*taken*")
    assert 2 * DAY < client.ttl(days) <= 3 * DAY


def test_jobs_and_claims_know_of_each_other(store: Store) -> None:
    claims = Claims(store)
    claims.done("mail", "1.a", "me")
    assert accept(store, "mail", 1, [Accepting("1.a|t5", b"[]"), Accepting("1.b|t5", b"[]")]) == 1
    assert claims.claim("mail", "1.b", "me", 60_000) is Claim.DONE


def test_it_is_remembered_over_midnight(store: Store) -> None:
    """By clocks that differ, too."""
    today = int(time.time()) // DAY
    for day, known in ((today - 2, False), (today - 1, True), (today, True), (today + 1, True), (today + 2, False)):
        key = store.service("mail").taken(day)[0]
        store.connector.client.sadd(key, f"1.{day}")
        claim = Claims(store).claim("mail", f"1.{day}", "me", 60_000)
        assert claim is (Claim.DONE if known else Claim.MINE), day - today
