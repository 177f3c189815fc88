"""Lines: never more at once than there are places, in their order, nobody forgotten, nothing left behind."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from fourlane import codec, job
from fourlane.errors import InvalidName, InvalidOption, RedisUnavailable
from fourlane.job import Record
from fourlane.names import Queue, Tier
from fourlane.outcome import Back, Cancel, Dead, Outcome, Postpone, Result, Retry
from fourlane.queues import browse, control, dead_letters
from fourlane.queues.guards import Lines
from fourlane.queues.lines import Line, read_lines, texts_of
from fourlane.queues.records import write_record
from fourlane.queues.store import Store
from fourlane.queues.turn import Ask, Leased

SERVICE = "mail"
RECORD = write_record(Record(attempts=1))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [Line("e:1", 3)],
        [Line("o:1:x", 1, ordered=True), Line("e:1", 10), Line("t.a_B-9", 100_000)],
    ],
)
def test_lines_as_texts_and_back(lines: list[Line]) -> None:
    assert read_lines(texts_of(lines)) == lines


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([Line("1", 3)], "a letter first"),
        ([Line("a b", 3)], "a letter first"),
        ([Line('a"]]', 3)], "a letter first"),
        ([Line("a" * 81, 3)], "1 to 80 letters"),
        ([Line("a", 0)], "its limit must be 1 to 100,000"),
        ([Line("a", 100_001)], "its limit must be 1 to 100,000"),
        ([Line("a", 2, ordered=True)], "its limit must be 1"),
        ([Line("a", 1), Line("a", 2)], "each named once"),
        ([Line(f"a{n}", 1) for n in range(5)], "in 4 lines"),
    ],
)
def test_lines_that_are_none(lines: list[Line], words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        texts_of(lines)


@pytest.mark.parametrize("texts", ["a=1", ["a"], ["a=0"], ["a=1", 2], ["a=1?"], ['a=1"]]\n'], {"a": 1}])
def test_texts_that_are_no_lines(texts: Any) -> None:
    with pytest.raises(InvalidOption):
        read_lines(texts)


class Bench:
    """One service, and workers that lease and settle as they are told."""

    def __init__(self, store: Store, db: redis.Redis) -> None:
        self.store = store
        self.keys = store.service(SERVICE)
        self.link = store.connector.open(self.keys.jobs)
        self.db: Any = db
        self.made = 0

    def send(self, *lines: Line, tier: int = 1, args: list[Any] | None = None) -> str:
        self.made += 1
        job_id = job.new_id(tier, 1_800_000_000_000 + self.made)
        body = codec.encode("t", args or [self.made], lines=texts_of(lines))
        self.store.enqueue(SERVICE, tier, [job_id, body])
        return job_id

    def lease(self, worker: str = "a", want: int = 10, **ask: Any) -> list[Leased]:
        ask = {"tiers": "0123", "look": True, "beat": True, "lines": True, "held": self.held(worker)} | ask
        return self.store.turn(self.link, SERVICE, worker, Ask(want, **ask)).jobs

    def ids(self, worker: str = "a", want: int = 10) -> list[str]:
        return [job.id_of_entry(leased.entry) for leased in self.lease(worker, want)]

    def held(self, worker: str) -> int:
        return len(self.store.held(SERVICE, worker))

    def settle(self, worker: str, job_id: str, outcome: Outcome | None = None) -> None:
        held, entry = self.held(worker) - 1, self.entry_of(worker, job.id_of_entry(job_id))
        done, others = ([entry], []) if outcome is None else ([], [(entry, outcome)])
        turn = self.store.turn(
            self.link, SERVICE, worker, Ask(held=held, lines=True, control=True), done=done, others=others
        )
        assert not turn.refused
        assert not turn.faults

    def entry_of(self, worker: str, job_id: str) -> str:
        return next(e for e in self.store.held(SERVICE, worker) if job.id_of_entry(e) == job_id)

    def state(self) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.db.hgetall(self.keys.lines).items()}

    def parked(self) -> list[str]:
        return [m.decode().split(" ", 2)[2] for m in self.db.zrange(self.keys.parked, 0, -1)]


@pytest.fixture
def bench(store: Store, redis_url: str) -> Iterator[Bench]:
    with redis.Redis.from_url(redis_url) as db:
        yield Bench(store, db)


def test_so_many_at_once_and_the_next_when_one_ends(bench: Bench) -> None:
    sent = [bench.send(Line("e", 2)) for _ in range(5)]
    assert bench.ids() == sent[:2]
    assert bench.ids("b") == []
    assert browse.services(bench.store)[0].parked == 3
    bench.settle("a", sent[0])
    assert bench.ids("b") == [sent[2]]
    bench.settle("b", sent[2])
    bench.settle("a", sent[1])
    assert sorted(bench.ids("b")) == sent[3:]
    for job_id in sent[3:]:
        bench.settle("b", job_id)
    assert (bench.state(), bench.parked()) == ({}, [])


def test_those_behind_in_the_queue_are_not_held_up(bench: Bench) -> None:
    """They may be of another line, or of none."""
    slow = [bench.send(Line("e:slow", 1)) for _ in range(100)]
    other, plain = bench.send(Line("e:other", 1)), bench.send()
    assert bench.ids(want=3) == [slow[0], other, plain]


def test_a_line_that_is_never_empty_keeps_nobody_out(bench: Bench) -> None:
    """It has as many places as there are slots, and jobs of its own to take each that becomes free."""
    sent = [bench.send(Line("e", 3)) for _ in range(30)]
    running = bench.ids()
    assert running == sent[:3]
    plain = [bench.send() for _ in range(6)]
    began: list[str] = []
    for _ in range(12):  # one ends, and another one begins in its place
        bench.settle("a", running.pop(0))
        running += bench.ids(want=1)
        began.append(running[-1])
    assert [job_id in plain for job_id in began] == [True, False] * 6


def test_of_several_lines_each_has_its_limit(bench: Bench) -> None:
    mine = [bench.send(Line(f"e:{n % 2}", 2), Line("t:me", 3)) for n in range(8)]
    yours = [bench.send(Line("e:9", 2), Line("t:you", 3)) for _ in range(3)]
    assert bench.ids() == [*mine[:3], *yours[:2]]
    bench.settle("a", mine[0])
    assert bench.ids() == [mine[3]]


@pytest.mark.parametrize("arguments", [["x"], ["a=1"], [1, 2, ["a=1"]], [',1,2,["a=1"'], {"a": ["a=1"]}, ["\n"]])
def test_arguments_are_never_taken_for_lines(bench: Bench, arguments: Any) -> None:
    one, two = (bench.send(args=[arguments]) for _ in range(2))
    assert bench.ids() == [one, two]
    body = codec.encode("t", [arguments], lines=["e=1"])
    first, second = job.new_id(1, 1_900_000_000_000), job.new_id(1, 1_900_000_000_001)
    bench.store.enqueue(SERVICE, 1, [first, body, second, codec.encode("t", [arguments, 2], lines=["e=1"])])
    assert bench.ids() == [first]


@pytest.mark.parametrize(
    ("outcome", "gives_up"),
    [
        (Retry(3_600_000, RECORD, ""), False),
        (Postpone(3_600_000), False),
        (Back(), False),
        (Cancel(), True),
        (Dead("error", "", RECORD), True),
        (Result(b"1", 60_000), True),
        (None, True),
    ],
)
def test_a_job_that_lives_on_keeps_its_place_in_an_order(bench: Bench, outcome: Outcome | None, gives_up: bool) -> None:
    first, second = (bench.send(Line("o", 1, ordered=True), Line("e", 1)) for _ in range(2))
    other = bench.send(Line("e", 1))
    assert bench.ids() == [first]
    bench.settle("a", first, outcome)
    if isinstance(outcome, Back):
        assert bench.ids() == [first]
        return
    assert bench.ids() == [other], "the other line is no order: its place is given up"
    bench.settle("a", other)
    assert bench.ids() == ([second] if gives_up else [])


def test_cancelled_wherever_it_waits(bench: Bench) -> None:
    line = Line("o", 1, ordered=True)
    running, delayed, parked, last = (bench.send(line) for _ in range(4))
    assert bench.ids() == [running]
    control.cancel(bench.store, parked)
    control.cancel(bench.store, running)
    bench.settle("a", running, Retry(3_600_000, RECORD, ""))  # not known to have been cancelled
    assert bench.ids() == [delayed]
    bench.settle("a", delayed, Retry(3_600_000, RECORD, ""))
    assert bench.ids() == []
    control.cancel(bench.store, delayed)
    assert bench.ids() == [last]
    bench.settle("a", last)
    assert (bench.state(), bench.parked()) == ({}, [])


def test_one_that_is_cancelled_as_it_is_parked_keeps_nobody_out(bench: Bench) -> None:
    """It had its place in an order, and waited for another."""
    Lines(bench.store).close(SERVICE, "e", 3_600_000)
    head = bench.send(Line("o", 1, ordered=True), Line("e", 1))
    assert bench.ids() == []
    next_one = bench.send(Line("o", 1, ordered=True))
    assert bench.ids() == []
    control.cancel(bench.store, head)
    assert bench.ids() == [next_one]


def test_places_of_a_dead_worker_come_back_with_its_jobs(bench: Bench) -> None:
    sent = [bench.send(Line("e", 2)) for _ in range(4)]
    bench.lease("dead", beat=True, silence_ms=-1_000)
    bench.store.reclaim(SERVICE, "dead", "it fell silent")
    assert bench.ids("b") == sent[:2]
    assert bench.ids("c") == []


def test_a_worker_that_leaves(bench: Bench) -> None:
    sent = [bench.send(Line("e", 2)) for _ in range(4)]
    bench.lease("a")
    bench.store.leave(SERVICE, "a", "")
    assert bench.ids("b") == sent[:2]


def test_one_that_was_cancelled_gives_up_its_place_as_its_worker_leaves(bench: Bench) -> None:
    first, second = (bench.send(Line("o", 1, ordered=True)) for _ in range(2))
    assert bench.ids("a") == [first]
    control.cancel(bench.store, first)
    bench.store.leave(SERVICE, "a", "")
    assert bench.ids("b") == [second]


def test_poison_gives_up_its_place(bench: Bench) -> None:
    first, second = (bench.send(Line("e", 1)) for _ in range(2))
    for _ in range(3):
        assert bench.ids("a") == [first]
        bench.store.reclaim(SERVICE, "a", "it crashed", [bench.entry_of("a", first)], ran=1)
    assert second in bench.ids("b")


def test_purge_leaves_nothing_behind(bench: Bench) -> None:
    for tier in (1, 2):
        for _ in range(3):
            bench.send(Line(f"e:{tier}", 1), tier=tier)
    running, other = bench.ids()
    assert control.purge(bench.store, Queue(SERVICE, Tier.P1)) == 2
    assert len(bench.parked()) == 2
    bench.settle("a", running)
    assert bench.ids() == []
    bench.settle("a", other)
    assert len(bench.ids()) == 1


def test_those_that_name_lines_in_any_order_wait_in_no_circle(bench: Bench) -> None:
    for n in range(40):
        lines = [Line("a", 1), Line("b", 1), Line("o", 1, ordered=True), Line("p", 1, ordered=True)]
        bench.send(*(lines if n % 2 else reversed(lines)))
    for _ in range(40):
        [job_id] = bench.ids()
        bench.settle("a", job_id)
    assert (bench.state(), bench.parked()) == ({}, [])


def test_who_waits_for_one_line_holds_no_place_of_another(bench: Bench) -> None:
    Lines(bench.store).close(SERVICE, "e:1", 3_600_000)
    closed = [bench.send(Line("t", 2), Line("e:1", 5)) for _ in range(3)]
    open_ = [bench.send(Line("t", 2), Line("e:2", 5)) for _ in range(3)]
    assert bench.ids() == open_[:2]
    Lines(bench.store).close(SERVICE, "e:1", 0)
    assert bench.ids() == [], "the other line is full now"
    for job_id in open_[:2]:
        bench.settle("a", job_id)
    assert sorted(bench.ids()) == closed[:2], "those that wait longest go first"


def test_many_that_lack_another_place_leave_none_unused(bench: Bench) -> None:
    """More of them than a call looks at."""
    first, second = bench.send(Line("e", 1)), bench.send(Line("t", 1))
    blocked = [bench.send(Line("e", 1), Line("t", 1)) for _ in range(250)]
    last = bench.send(Line("e", 1))
    assert bench.ids() == [first, second]
    bench.settle("a", first)
    for _ in range(10):
        if ids := bench.ids():
            break
    assert ids == [last]
    bench.settle("a", last)
    bench.settle("a", second)
    for job_id in blocked:
        assert bench.ids() == [job_id]
        bench.settle("a", job_id)
    assert (bench.state(), bench.parked()) == ({}, [])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda lines: lines.close(SERVICE, "e", -1),
        lambda lines: lines.close(SERVICE, "e", float("nan")),
        lambda lines: lines.close(SERVICE, "e", 10**20),
        lambda lines: lines.close(SERVICE, "x y", 1),
        lambda lines: lines.narrow(SERVICE, "e", 0),
        lambda lines: lines.narrow(SERVICE, "e", "2"),
        lambda lines: lines.widen(SERVICE, ""),
        lambda lines: lines.widen("no service", "e"),
    ],
)
def test_what_is_no_line_or_number_is_refused(bench: Bench, wrong: Callable[[Lines], None]) -> None:
    with pytest.raises((InvalidOption, InvalidName)):
        wrong(Lines(bench.store))


def test_a_closed_line_opens_by_itself(bench: Bench) -> None:
    lines = Lines(bench.store)
    sent = [bench.send(Line("e", 2)) for _ in range(3)]
    assert bench.ids() == sent[:2]
    lines.close(SERVICE, "e", 3_600_000)
    lines.close(SERVICE, "e", 1)
    for job_id in sent[:2]:
        bench.settle("a", job_id)
    assert bench.ids() == []
    [service] = browse.services(bench.store)
    assert (service.parked, service.delayed) == (1, 0)
    lines.close(SERVICE, "e", 0)
    assert bench.ids() == [sent[2]]
    bench.settle("a", sent[2])
    assert bench.state() == {}
    assert browse.services(bench.store)[0].delayed == 0


def test_a_worker_that_waits_is_told_when_a_line_opens(bench: Bench) -> None:
    Lines(bench.store).close(SERVICE, "e", 3_000)
    bench.send(Line("e", 2))
    turn = bench.store.turn(bench.link, SERVICE, "a", Ask(10, "0123", look=True))
    assert turn.jobs == []
    turn = bench.store.turn(bench.link, SERVICE, "a", Ask(0, "", look=True))
    assert turn.due_in is not None
    assert 2_000 < turn.due_in <= 3_000


def test_a_line_that_is_narrowed_and_widened(bench: Bench) -> None:
    lines = Lines(bench.store)
    sent = [bench.send(Line("e", 3)) for _ in range(9)]
    assert bench.ids() == sent[:3]
    lines.narrow(SERVICE, "e", 1)
    bench.settle("a", sent[0])
    bench.settle("a", sent[1])
    assert bench.ids() == []
    bench.settle("a", sent[2])
    assert bench.ids() == [sent[3]]
    lines.widen(SERVICE, "e")
    assert sorted(bench.ids()) == sent[4:6]


def test_the_job_that_asked_last_says_the_limit(bench: Bench) -> None:
    sent = [bench.send(Line("e", 1)) for _ in range(4)]
    assert bench.ids() == sent[:1]
    more = [bench.send(Line("e", 3)) for _ in range(2)]
    assert sorted(bench.ids()) == sent[1:3], "those parked go before who raised the limit"
    less = bench.send(Line("e", 1))
    for job_id in sent[:2]:
        assert bench.ids() == []
        bench.settle("a", job_id)
    assert bench.ids() == []
    bench.settle("a", sent[2])
    assert bench.ids() == [sent[3]]
    assert bench.parked()[0].startswith(more[0])
    assert less


def test_a_queue_s_limit_and_lines(bench: Bench) -> None:
    """What is parked has begun nothing, so that the queue's own limits do not count it."""
    control.set_limit(bench.store, Queue(SERVICE, Tier.P1), concurrency=2, rate=4, per_ms=3_600_000)
    slow = [bench.send(Line("e", 1)) for _ in range(3)]
    quick = [bench.send() for _ in range(4)]
    assert bench.ids() == [slow[0], quick[0]]
    bench.settle("a", quick[0])
    assert bench.ids() == [quick[1]]


def test_dead_letters_wait_in_their_lines_again(bench: Bench) -> None:
    first, second = (bench.send(Line("e", 1)) for _ in range(2))
    assert bench.ids() == [first]
    bench.settle("a", first, Dead("error", "", RECORD))
    assert bench.ids() == [second]
    dead_letters.edit(bench.store, first, args=["mended"])
    dead_letters.replay(bench.store, [first])
    assert bench.ids() == []
    bench.settle("a", second)
    assert bench.ids() == [first]


def test_keys_of_another_type_lose_nothing(bench: Bench) -> None:
    sent = [bench.send(Line("e", 1)), bench.send()]
    bench.db.set(bench.keys.parked, "not ours")
    with pytest.raises(RedisUnavailable, match="WRONGTYPE"):
        bench.lease()
    bench.db.delete(bench.keys.parked)
    assert bench.ids() == sent


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_in_whatever_order(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    story = _Story(bench, chance)
    for _ in range(400):
        chance.choice(story.acts)()
        story.check()
    story.end()
    assert bench.state() == {}
    assert bench.parked() == []
    for pattern in ("crashes", "records"):
        assert bench.db.hlen(bench.keys._key(pattern)) == 0


class _Story:
    """Three workers; lines of 1 and 2 places, in an order and in none; random acts."""

    def __init__(self, bench: Bench, chance: random.Random) -> None:
        self.bench, self.chance = bench, chance
        self.lines: dict[str, list[Line]] = {}
        self.begun: dict[str, list[str]] = {}
        self.over: set[str] = set()
        self.lost = 0
        self.acts = [self.send] * 4 + [self.lease] * 5 + [self.settle] * 6
        self.acts += [self.cancel, self.die, self.leave, self.close, self.narrow]
        self.workers = ["a.0", "b.0", "c.0"]

    def send(self) -> None:
        key = self.chance.choice("xy")
        lines = [Line(f"o:{key}", 1, ordered=True)] if self.chance.random() < 0.5 else []
        lines += [Line(f"e:{key}", 2), Line("t", 3)] if self.chance.random() < 0.8 else []
        self.lines[self.bench.send(*lines, tier=self.chance.choice([1, 2]))] = lines

    def lease(self) -> None:
        want = self.chance.choice([1, 2, 10])
        for job_id in self.bench.ids(self.chance.choice(self.workers), want):
            for line in self.lines[job_id]:
                if line.ordered:
                    self.begun.setdefault(line.name, []).append(job_id)

    def settle(self) -> None:
        worker = self.chance.choice(self.workers)
        for entry in list(self.bench.store.held(SERVICE, worker))[: self.chance.choice([1, 3])]:
            outcome = self.chance.choice(
                [None, None, Result(b"1", 1), Retry(0, RECORD, ""), Postpone(0), Back(), Dead("error", "", RECORD)]
            )
            self.bench.settle(worker, entry, outcome)

    def cancel(self) -> None:
        control.cancel(self.bench.store, self.chance.choice([*self.lines, "1none"]))

    def die(self) -> None:
        index = self.chance.randrange(3)
        worker = self.workers[index]
        self.bench.lease(worker, 0, silence_ms=-1_000, tiers="")
        self.bench.store.reclaim(SERVICE, worker, "it fell silent")
        self._anew(index)

    def leave(self) -> None:
        index = self.chance.randrange(3)
        self.bench.store.leave(SERVICE, self.workers[index], "")
        self._anew(index)

    def _anew(self, index: int) -> None:
        self.lost += 1
        self.workers[index] = f"{'abc'[index]}.{self.lost}"

    def close(self) -> None:
        Lines(self.bench.store).close(SERVICE, self.chance.choice(["e:x", "o:y", "t"]), self.chance.choice([0, 5]))

    def narrow(self) -> None:
        lines = Lines(self.bench.store)
        if self.chance.random() < 0.5:
            lines.narrow(SERVICE, "e:x", 1)
        else:
            lines.widen(SERVICE, "e:x")

    def check(self) -> None:
        running = Counter[str]()
        for worker in self.workers:
            for entry in self.bench.store.held(SERVICE, worker):
                running.update(line.name for line in self.lines[job.id_of_entry(entry)])
        for name, number in running.items():
            assert number <= {"o": 1, "e": 2, "t": 3}[name[0]], name
        taken = Counter[str]()
        state = self.bench.state()
        for field, places in state.items():
            if re.match("[0-9]", field):
                taken.update(place.rstrip("!") for place in places.split())
        kept = {name: int(text.split()[1]) for name, text in state.items() if not re.match("[0-9]", name)}
        assert taken == {name: number for name, number in kept.items() if number}

    def end(self) -> None:
        """Everything that can end does."""
        for name in ("e:x", "e:y", "o:x", "o:y", "t"):
            Lines(self.bench.store).close(SERVICE, name, 0)
        for _ in range(1_000):
            idle = True
            for worker in self.workers:
                self.bench.lease(worker)
                for entry in self.bench.store.held(SERVICE, worker):
                    self.bench.settle(worker, entry)
                    idle = False
            if idle and not self.bench.db.zcard(self.bench.keys.delayed):
                break
        dead_letters.discard(self.bench.store, dead_letters.Filter())
        assert self.bench.db.hlen(self.bench.keys.jobs) == 0
