from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest

from fourlane.errors import InvalidArguments, JobNotFound, SettingsError, UnreadableJob
from fourlane.job import Attempt, Record, State
from fourlane.outcome import Dead
from fourlane.queues import browse, control, dead_letters
from fourlane.queues.dead_letters import Filter
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.redis.replies import scored
from fourlane.queues.store import Store
from fourlane.queues.turn import Ask
from tests.queues.conftest import Hand


def age(store: Store, job_id: str, milliseconds: int, service: str = "mail") -> None:
    """Let a dead letter have died earlier."""
    key = store.service(service).dead[int(job_id[0])]
    store.connector.command(key, "ZINCRBY", key, -milliseconds, job_id)


def pages(store: Store, filter: Filter, limit: int) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        page = dead_letters.find(store, filter, cursor, limit)
        assert len(page.letters) <= limit
        found += [letter.id for letter in page.letters]
        cursor = page.cursor
        if not cursor:
            return found


def test_every_field_of_the_filter(store: Store, hand: Hand) -> None:
    [old] = hand.kill(task="report", tier=2)
    age(store, old, 3_600_000)
    [rejected] = hand.kill(reason="rejected", service="bills")
    [plain] = hand.kill()

    rows: list[tuple[Filter, set[str]]] = [
        (Filter(), {old, rejected, plain}),
        (Filter(queue="jobs.low.mail"), {old}),
        (Filter(queue="bills"), {rejected}),
        (Filter(task="report"), {old}),
        (Filter(reason="rejected"), {rejected}),
        (Filter(reason="reject"), set()),
        (Filter(older_than_ms=60_000), {old}),
        (Filter(newer_than_ms=60_000), {rejected, plain}),
        (Filter(task="send", newer_than_ms=60_000, queue="mail"), {plain}),
        (Filter(older_than_ms=60_000, newer_than_ms=120_000), set()),
    ]
    for filter, expected in rows:
        assert {letter.id for letter in dead_letters.find(store, filter).letters} == expected, filter
        assert dead_letters.count(store, filter) == len(expected), filter


@pytest.mark.parametrize("limit", [1, 7, 200, 1_000])
def test_pages_meet_everything_once_the_latest_first(store: Store, hand: Hand, limit: int) -> None:
    """Hundreds that died in the same millisecond too."""
    count = 450 if limit > 1 else 30
    dead = hand.kill(count) + hand.kill(30, service="bills", tier=0)
    for number, job_id in enumerate(dead[:20]):
        age(store, job_id, number * 10)
    found = pages(store, Filter(), limit)
    assert sorted(found) == sorted(dead)
    died = [dead_letters.show(store, i).died_at_ms or 0 for i in found[:: max(1, len(found) // 40)]]
    assert died == sorted(died, reverse=True)


def test_pages_go_on_while_letters_go(store: Store, hand: Hand) -> None:
    dead = hand.kill(30)
    first = dead_letters.find(store, limit=10)
    dead_letters.discard(store, [letter.id for letter in first.letters])
    hand.kill(5)
    rest = dead_letters.find(store, cursor=first.cursor, limit=100)
    assert sorted(i.id for i in [*first.letters, *rest.letters]) == sorted(dead)


@pytest.mark.parametrize("cursor", ["x", "bm9wZQ", "é", "WzFd"])
def test_a_wrong_cursor(store: Store, cursor: str) -> None:
    with pytest.raises(SettingsError):
        dead_letters.find(store, cursor=cursor)


def test_show(store: Store, hand: Hand) -> None:
    [job_id] = hand.kill(detail="line\nline")
    info = dead_letters.show(store, job_id)
    assert (info.state, info.reason, info.detail, info.args) == (State.DEAD, "error", "line\nline", [0])
    [alive] = hand.enqueue()
    with pytest.raises(JobNotFound):
        dead_letters.show(store, alive)


def test_a_replay_counts_attempts_anew_and_keeps_the_history(store: Store, hand: Hand) -> None:
    [job_id] = hand.enqueue()
    [leased] = hand.turn(1).jobs
    record = Record(attempts=6, options={"retries": 6, "x": 1}, unknown_since_ms=5)
    record.errors = [Attempt(1, "E")]
    hand.turn(others=[(leased.entry, Dead("error", "boom", msgspec.json.encode(record)))])
    keys = store.service("mail")
    store.connector.command(keys.jobs, "HSET", keys.crashes, job_id, 2)

    assert dead_letters.replay(store, [job_id], by="me") == 1
    [again] = hand.turn(10).jobs
    assert (again.entry.partition("|")[0], again.crashes) == (job_id, 0)
    after = msgspec.json.decode(again.record, type=Record)
    assert (after.attempts, after.options, after.unknown_since_ms, after.replays) == (0, {"x": 1}, 0, 1)
    assert [e.error for e in after.errors] == ["E"]
    assert dead_letters.count(store) == 0


def test_a_replay_takes_the_longest_dead_first(store: Store, hand: Hand) -> None:
    a, b, c = hand.kill(3)
    for job_id, milliseconds in ((b, 3_000), (c, 2_000), (a, 1_000)):
        age(store, job_id, milliseconds)
    assert dead_letters.replay(store, Filter(task="send")) == 3
    assert [j.entry.partition("|")[0] for j in hand.turn(10).jobs] == [b, c, a]


def test_a_replay_by_filter_of_many_leaves_the_others(store: Store, hand: Hand) -> None:
    hand.kill(450)
    hand.kill(450, service="bills")
    [other] = hand.kill(task="report")
    assert dead_letters.replay(store, Filter(task="send"), dry_run=True) == 900
    assert dead_letters.count(store) == 901
    assert dead_letters.replay(store, Filter(task="send")) == 900
    assert [i.id for i in dead_letters.find(store).letters] == [other]


def test_a_replay_does_not_follow_jobs_that_die_again(store: Store, hand: Hand) -> None:
    """A worker kills every job anew while the replay runs."""
    hand.kill(700)
    real, rounds = store.connector.run_once, 0

    def run(name: str, keys: Any, args: Any, sent: bytes) -> Any:
        nonlocal rounds
        reply = real(name, keys, args, sent)
        if name == "replay":
            rounds += 1
            assert rounds < 20
            hand.bury(len(reply) - 1)
        return reply

    store.connector.run_once = run  # type: ignore[method-assign]
    assert dead_letters.replay(store, Filter()) == 700
    assert dead_letters.count(store) == 700


def test_a_death_after_it_was_read_is_not_replayed(store: Store, hand: Hand) -> None:
    [job_id] = hand.kill()
    keys = store.service("mail")
    assert store.connector.run_once("replay", keys.all, ("", 0, job_id, 5, 0, ""), keys.sent) == [0]
    assert dead_letters.count(store) == 1


def test_a_rate_spreads_the_replay(store: Store, hand: Hand) -> None:
    hand.kill(3)
    hand.kill(2, service="bills")
    assert dead_letters.replay(store, Filter(), rate_per_second=0.1) == 5
    infos = {q.name: q for q in browse.services(store)}
    assert sum(s.delayed for s in infos.values()) == 4
    assert sum(q.ready for s in infos.values() for q in s.queues) == 1
    keys = store.service("mail")
    last = scored(store.connector.command(keys.jobs, "ZREVRANGE", keys.delayed, 0, 0, "WITHSCORES"))[0][1]
    keys = store.service("bills")
    other = scored(store.connector.command(keys.jobs, "ZREVRANGE", keys.delayed, 0, 0, "WITHSCORES"))[0][1]
    assert 35_000 < max(last, other) - browse.now_ms(store) <= 40_000
    with pytest.raises(SettingsError):
        dead_letters.replay(store, Filter(), rate_per_second=0)


def let_go(store: Store, hand: Hand, milliseconds: int, service: str = "mail") -> int:
    """Let so much time pass for what is delayed, with nobody there; then one look. Returns how many became ready."""
    keys = store.service(service)
    entries = scored(store.connector.command(keys.delayed, "ZRANGE", keys.delayed, 0, -1, "WITHSCORES"))
    for entry, _ in entries:
        store.connector.command(keys.delayed, "ZINCRBY", keys.delayed, -milliseconds, entry)
    before = store.connector.command(keys.ready[1], "LLEN", keys.ready[1])
    while hand.turn(ask=Ask(look=True), service=service).due_in == 0:
        pass
    return int(store.connector.command(keys.ready[1], "LLEN", keys.ready[1])) - int(before)


def due_times(store: Store, service: str = "mail") -> list[int]:
    keys = store.service(service)
    found = store.connector.command(keys.delayed, "ZRANGE", keys.delayed, 0, -1, "WITHSCORES")
    return [at for _, at in scored(found)]


def test_a_replay_keeps_its_rate_after_a_stall(store: Store, hand: Hand) -> None:
    hand.kill(300)
    assert dead_letters.replay(store, Filter(), rate_per_second=10) == 300
    assert let_go(store, hand, 15_000) <= 1 + 1, "that of the last tenth of a second, and one that was late"
    times = due_times(store)
    assert len(times) >= 299 - 2
    assert min(b - a for a, b in itertools.pairwise(times)) >= 50, "the others keep their distance"
    assert times[-1] - times[0] >= 95 * (len(times) - 1)
    assert let_go(store, hand, 60_000) <= 1 + 1, "all of them late"
    assert due_times(store)[0] > browse.now_ms(store), "and behind the present"


@pytest.mark.parametrize(("rate", "stall_ms"), [(8, 600), (8, 2_000), (8, 30_000), (100, 2_000)])
def test_a_replay_never_catches_up(store: Store, hand: Hand, rate: int, stall_ms: int) -> None:
    hand.kill(300)
    dead_letters.replay(store, Filter(), rate_per_second=rate)
    let = let_go(store, hand, stall_ms)
    now = browse.now_ms(store)
    let += sum(at < now + 1_000 for at in due_times(store))
    assert rate - 1 <= let <= rate * 1.1 + 2, "in the second after it"


def test_two_replays_have_each_its_rate_and_other_delays_none(store: Store, hand: Hand) -> None:
    hand.kill(40)
    hand.kill(40, task="report")
    plain = [hand.delay(1_000) for _ in range(50)]
    assert dead_letters.replay(store, Filter(task="report"), rate_per_second=2) == 40
    assert dead_letters.replay(store, Filter(), rate_per_second=10) == 40
    assert let_go(store, hand, 30_000) <= len(plain) + (1 + 1) + (1 + 1)
    times = due_times(store)
    assert len(times) >= 78 - 4
    rest_ms = max(times) - browse.now_ms(store)
    assert rest_ms > 15_000, "the slow one takes its twenty seconds still"


def test_a_job_of_a_replay_can_be_cancelled_looked_at_and_purged(store: Store, hand: Hand) -> None:
    died = hand.kill(5)
    dead_letters.replay(store, Filter(), rate_per_second=0.1)
    waiting = [job_id for job_id in died if browse.job(store, job_id).state is State.DELAYED]
    assert len(waiting) == 4
    assert control.cancel(store, waiting[0]) == "delayed"
    assert control.purge(store, "mail") == 4
    assert let_go(store, hand, 100_000) == 0


def test_services_share_the_rate_after_a_stall(store: Store, hand: Hand) -> None:
    hand.kill(20)
    hand.kill(20, service="bills")
    dead_letters.replay(store, Filter(), rate_per_second=10)
    for service in ("mail", "bills"):
        let_go(store, hand, 20_000, service)
    gaps = [b - a for s in ("mail", "bills") for t in [due_times(store, s)] for a, b in itertools.pairwise(t)]
    assert min(gaps) >= 150


def test_a_wrong_id_replays_and_discards_nothing(store: Store, hand: Hand) -> None:
    [job_id] = hand.kill()
    for act in (dead_letters.replay, dead_letters.discard):
        with pytest.raises(JobNotFound):
            act(store, [job_id, "nope"])
    assert dead_letters.count(store) == 1


def test_ids_chosen_elsewhere(store: Store, hand: Hand) -> None:
    stored = hand.enqueue_foreign("6ba7b810", tier=2)
    hand.bury(1)
    hand.enqueue_foreign("6ba7b810", tier=0)  # alive, of the same message id
    assert dead_letters.show(store, "6ba7b810").queue == "local.jobs.low.mail"
    assert dead_letters.replay(store, ["6ba7b810", "6ba7b810"]) == 1
    assert browse.job(store, stored).state is State.READY


def test_discarding(store: Store, hand: Hand) -> None:
    kept, *gone = hand.kill(5)
    assert dead_letters.discard(store, gone, dry_run=True) == 4
    assert dead_letters.discard(store, gone) == 4
    assert [i.id for i in dead_letters.find(store).letters] == [kept]
    keys = store.service("mail")
    for key in (keys.jobs, keys.records, keys.reasons):
        assert store.connector.command(key, "HLEN", key) == 1


def test_the_audit_tells_who_did_what(store: Store, hand: Hand) -> None:
    a, _, c = hand.kill(3)
    dead_letters.replay(store, Filter(task="send"), dry_run=True)
    assert dead_letters.audit(store) == []

    dead_letters.edit(store, c, args=[2], by="cy")
    dead_letters.replay(store, [a], by="ann")
    dead_letters.discard(store, Filter(queue="mail", older_than_ms=0), by="bob")
    bob, ann, cy = dead_letters.audit(store)
    assert (bob.who, bob.action, bob.count) == ("bob", "discard", 2)
    assert bob.filter == {"queue": "mail", "older_than_ms": 0}
    assert (ann.who, ann.action, ann.count, ann.ids) == ("ann", "replay", 1, [a])
    assert (cy.action, cy.ids) == ("edit", [c])
    assert abs(bob.when_ms - browse.now_ms(store)) < 10_000
    hand.kill()
    dead_letters.discard(store, Filter())
    assert "@" in dead_letters.audit(store, limit=1)[0].who


def test_an_edited_job_runs_with_its_new_arguments(store: Store, hand: Hand) -> None:
    [job_id] = hand.kill()
    info = dead_letters.edit(store, job_id, args=["new"])
    assert (info.args, info.kwargs) == (["new"], {"to": "x"})
    dead_letters.edit(store, job_id, kwargs={})
    dead_letters.replay(store, [job_id])
    assert json.loads(hand.turn(1).jobs[0].body) == ["send", ["new"]]
    with pytest.raises(JobNotFound):
        dead_letters.edit(store, job_id, args=[])


def test_an_edit_must_be_json(store: Store, hand: Hand) -> None:
    [job_id] = hand.kill()
    with pytest.raises(InvalidArguments):
        dead_letters.edit(store, job_id, args=[object()])
    key = store.service("mail").jobs
    store.connector.command(key, "HSET", key, job_id, b"\xff")
    with pytest.raises(UnreadableJob):
        dead_letters.edit(store, job_id, args=[])


def test_export_and_import_carry_everything(store: Store, hand: Hand, redis_url: str, namespace: str) -> None:
    dead = hand.kill(450, detail="one\ntwo") + hand.kill(1, service="bills", tier=3)
    foreign = hand.enqueue_foreign("6ba7b810")
    hand.bury(1)
    garbage, deep = b"\xff\n{", b'["send",[' + b"[" * 5_000 + b"]" * 5_000 + b"]]"
    key = store.service("mail").jobs
    store.connector.command(key, "HSET", key, dead[0], garbage, dead[2], deep)
    lines = list(dead_letters.export(store))
    assert len(lines) == 452
    assert not any("\n" in line for line in lines)
    # Which lines cannot be read follows from ids made within one millisecond.
    readable = [letter["body"][0] for letter in map(json.loads, lines) if "body" in letter]
    assert readable == ["send"] * 450

    elsewhere = Store(Connector(client_of(redis_url)), namespace=namespace + "b", environment="staging")
    try:
        done = dead_letters.import_(elsewhere, lines, by="me")
        assert (done.taken, done.skipped) == (452, 0)
        done = dead_letters.import_(elsewhere, [*lines, "", "\n"])
        assert (done.taken, done.skipped) == (0, 452)
        for job_id in (dead[1], dead[-1], foreign):
            before, after = dead_letters.show(store, job_id), dead_letters.show(elsewhere, job_id)
            assert after == msgspec.structs.replace(before, queue=after.queue)
            assert after.queue.startswith("staging.")
        key = elsewhere.service("mail").jobs
        assert elsewhere.connector.command(key, "HMGET", key, dead[0], dead[2]) == [garbage, deep]
        assert list(dead_letters.export(elsewhere)) == lines
        assert [r.action for r in dead_letters.audit(elsewhere)] == ["import", "import"]
    finally:
        elsewhere.connector.close()


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        '{"id": "1.a", "queue": "mail", "died_at_ms": 1, "reason": "error"}',  # no body
        '{"id": "2.a", "queue": "mail", "died_at_ms": 1, "reason": "error", "body": ["t"]}',  # another tier
        '{"id": "!", "queue": "mail", "died_at_ms": 1, "reason": "error", "body": ["t"]}',
        '{"id": "1.a|r", "queue": "mail", "died_at_ms": 1, "reason": "error", "body": ["t"]}',
        '{"id": "1.a", "queue": "production.jobs.low.x", "died_at_ms": 1, "reason": "error", "body": ["t"]}',
    ],
)
def test_an_import_of_something_else(store: Store, line: str) -> None:
    with pytest.raises(UnreadableJob, match="line 2"):
        dead_letters.import_(store, ["", line])
    assert store.services() == []
