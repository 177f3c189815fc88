"""Schedules from their declaration to their jobs, on a real server, with the scheduler in a thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import fourlane
from fourlane import codec
from fourlane.errors import InvalidSchedule, ScheduleNotFound
from fourlane.outcome import Dead
from fourlane.queues import schedules
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import Link
from fourlane.queues.schedules import Fire, Schedule, State
from fourlane.queues.store import Store
from fourlane.queues.turn import Ask
from fourlane.scheduler import manage
from fourlane.scheduler.declare import add
from fourlane.scheduler.firing import requests
from tests.scheduler.conftest import RunScheduler
from tests.servers import eventually
from tests.worker.conftest import RunWorker, run_worker

__all__ = ["run_worker"]

SECOND = timedelta(seconds=1)


@pytest.fixture
def link(store: Store) -> Iterator[Link]:
    opened = store.connector.open(store.keys.services)
    yield opened
    opened.close()


def jobs(store: Store, service: str = "default", tier: int = 3) -> list[codec.Envelope]:
    """What waits in a list."""
    keys = store.service(service)
    ids = [e.partition(b"|")[0] for e in store.connector.command(keys.jobs, "LRANGE", keys.ready[tier], 0, -1)]
    return [codec.decode(store.connector.command(keys.jobs, "HGET", keys.jobs, i)) for i in ids]


def rewind(store: Store, name: str, seconds: float, **changes: Any) -> int:
    """Make a schedule's next nominal time lie so far back, as if no scheduler had run since. Returns that time."""
    schedule, state, text = schedules.read(store, "default", [name])[name]
    interval = schedule.every_ms or 1000  # a cron rule for every second
    back = int(seconds * 1000) // interval * interval
    now = schedules.now_ms(store, "default")
    first = now - now % interval - back
    state = msgspec.structs.replace(state, next_ms=first, last_ms=first - interval, **changes)
    assert schedules.write(store, "default", [schedules.Write(name, text, None, schedules.encode(state), first)])
    return first


def history(store: Store, name: str) -> list[str]:
    return [run.state for run in reversed(manage.history(store, name))]


# Fire ------------------------------------------------------------------------------------------------------


def test_a_schedule_makes_a_job_for_each_of_its_times(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler
) -> None:
    @fourlane.task
    def report(customer: str, *, days: int) -> None: ...

    run_scheduler()
    add(report, "reports", every=SECOND, args=["ada"], kwargs={"days": 7}, overlap="allow", max_runs=3)
    eventually(lambda: manage.find(store, "reports").state.runs == 3)

    made = jobs(store)
    assert [(j.task, j.args, j.kwargs) for j in made] == [("report", ["ada"], {"days": 7})] * 3
    nominal = [j.options["scheduled_for"] for j in made]
    assert nominal == [nominal[0], nominal[0] + 1000, nominal[0] + 2000]
    assert all(0 <= j.enqueued_ms - n < 500 for j, n in zip(made, nominal, strict=True))
    found = manage.find(store, "reports")
    assert (found.state.next_ms, found.due_ms) == (0, 0), "three runs were asked for"
    assert found.late_ms < 500


def test_the_task_learns_its_nominal_time_and_the_history_how_it_ended(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, run_worker: RunWorker
) -> None:
    seen: list[Any] = []

    @fourlane.task(max_retries=0)
    def work(fails: bool) -> None:
        seen.append(fourlane.current_job())
        if fails:
            raise ValueError("no")

    at = datetime.now(UTC) + timedelta(seconds=0.3)
    run_scheduler()
    run_worker(broker)
    add(work, "good", at=[at], args=[False])
    add(work, "bad", at=[at], args=[True])
    eventually(lambda: len(seen) == 2)
    for job in seen:
        assert job.schedule in ("good", "bad")
        assert job.scheduled_for is not None
        assert job.scheduled_for_ms <= job.enqueued_at_ms < job.scheduled_for_ms + 5_000
        assert abs(job.scheduled_for - at) < timedelta(milliseconds=2)
    eventually(lambda: history(store, "good") == ["done"])
    eventually(lambda: history(store, "bad") == ["dead"])
    run = manage.history(store, "good")[0]
    assert run.duration_ms is not None
    assert run.started_ms is not None
    assert run.started_ms >= run.at_ms - 50


def test_a_job_in_another_tier_wakes_its_worker(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, run_worker: RunWorker
) -> None:
    at: list[float] = []

    @fourlane.task
    def ring() -> None:
        at.append(time.time())

    moment = datetime.now(UTC) + timedelta(seconds=1)
    run_worker(broker)
    run_scheduler()
    add(ring, "ring", at=[moment], tier="high")
    eventually(lambda: at)
    assert at[0] - moment.timestamp() < 1.0


def test_nobody_decides_a_nominal_time_twice(broker: RedisBroker, store: Store, link: Link) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "s", cron="0 0 1 1 *")
    _, state, text = schedules.read(store, "default", ["s"])["s"]
    after = schedules.encode(msgspec.structs.replace(state, last_ms=state.next_ms))

    def request(job_id: str) -> Fire:
        return Fire("s", text, 0, job_id, codec.encode("work", []), "", after, 0, "f 1 1")

    assert schedules.fire(store, link, "default", [request("3aaaaaaaaaaaaa")])[1] == ["fired"]
    assert schedules.fire(store, link, "default", [request("3bbbbbbbbbbbbb")])[1] == ["moved"]
    assert len(jobs(store)) == 1


def test_a_script_does_not_fire_before_the_time(broker: RedisBroker, store: Store, link: Link) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "s", cron="0 0 1 1 *")
    _, _, text = schedules.read(store, "default", ["s"])["s"]
    later = schedules.now_ms(store, "default") + 60_000
    request = Fire("s", text, later, "3aaaaaaaaaaaaa", b"[]", "", text, 0, "f 1 1")
    assert schedules.fire(store, link, "default", [request])[1] == ["early"]
    assert jobs(store) == []


# Missed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "back", "expected"),
    [
        ({"catch_up": "last"}, 3000, 1),  # fifty minutes ago
        ({"catch_up": "last", "catch_up_window_seconds": 330}, 3000, 1),  # the last one is recent enough
        ({"catch_up": "none"}, 3000, 0),
        ({"catch_up": "all"}, 3000, 5),
        ({"catch_up": "all", "catch_up_window_seconds": 1300}, 3000, 2),
        ({"catch_up": "all", "catch_up_window_seconds": 1300, "max_runs": 1}, 3000, 1),
    ],
)
def test_missed_runs(
    broker: RedisBroker,
    store: Store,
    run_scheduler: RunScheduler,
    options: dict[str, Any],
    back: int,
    expected: int,
) -> None:
    @fourlane.task
    def work() -> None: ...

    anchor = datetime.now(UTC) - timedelta(seconds=300)  # so that no time is near now
    add(work, "s", every=timedelta(minutes=10), anchor=anchor, **options)
    _, state, text = schedules.read(store, "default", ["s"])["s"]
    first = state.next_ms - 600_000 * (back // 600)
    state = msgspec.structs.replace(state, next_ms=first)
    schedules.write(store, "default", [schedules.Write("s", text, None, schedules.encode(state), first)])
    run_scheduler()
    eventually(lambda: manage.find(store, "s").state.next_ms in (0, first + 600_000 * (back // 600)))
    made = [j.options["scheduled_for"] for j in jobs(store)]
    assert len(made) == expected
    if expected and "max_runs" not in options:
        assert made == [first + 600_000 * n for n in range(5 - expected, 5)], "the last ones, in their order"
    assert ("missed" in history(store, "s")) == (expected < 5)


def test_a_short_absence_misses_nothing(broker: RedisBroker, store: Store, run_scheduler: RunScheduler) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "s", every=SECOND, catch_up="none", overlap="allow")
    first = rewind(store, "s", 20)
    run_scheduler()
    eventually(lambda: len(jobs(store)) > 20)
    made = [j.options["scheduled_for"] for j in jobs(store)]
    assert made == list(range(first, first + 1000 * len(made), 1000))


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
def test_one_that_fell_behind_catches_up_beside_others(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, overlap: schedules.Overlap
) -> None:
    """Its neighbours have a time of their own in each second, so that something is always prepared."""

    @fourlane.task
    def work() -> None: ...

    def late_ms(name: str) -> int:
        return schedules.now_ms(store, "default") - manage.find(store, name).state.last_ms

    now = datetime.now(UTC)
    add(work, "behind", every=SECOND, overlap=overlap)
    add(work, "cron", cron="* * * * * *", overlap=overlap)
    add(work, "beside", every=SECOND, anchor=now - timedelta(milliseconds=500))
    add(work, "allows", every=SECOND, anchor=now - timedelta(milliseconds=700), overlap="allow")
    run_scheduler()
    eventually(lambda: manage.find(store, "beside").state.last_ms)
    before = {name: len(history(store, name)) for name in ("behind", "cron")}
    first = {name: rewind(store, name, 20) for name in before}
    schedules.tell(store)
    eventually(lambda: max(map(late_ms, first)) < 2_000)
    eventually(lambda: len(history(store, "behind")) >= 20)
    for name, nominal in first.items():
        decided = [run.nominal_ms for run in reversed(manage.history(store, name))][before[name] :]
        assert decided == list(range(nominal, nominal + 1000 * len(decided), 1000)), "each once, in order"
    beside = [run.nominal_ms for run in reversed(manage.history(store, "beside"))]
    assert beside == list(range(beside[0], beside[0] + 1000 * len(beside), 1000))


# Overlap ---------------------------------------------------------------------------------------------------


def test_skip_leaves_a_record(broker: RedisBroker, store: Store, run_scheduler: RunScheduler) -> None:
    @fourlane.task
    def work() -> None: ...

    run_scheduler()
    add(work, "s", every=SECOND)
    eventually(lambda: manage.find(store, "s").state.skipped == 2)
    assert history(store, "s")[:3] == ["ready", "skipped", "skipped"]
    assert len(jobs(store)) == 1


def test_queue_runs_one_when_the_job_before_has_ended(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, run_worker: RunWorker
) -> None:
    began: list[int] = []
    gate: list[bool] = []

    @fourlane.task
    def work() -> None:
        job = fourlane.current_job()
        assert job is not None
        began.append(job.scheduled_for_ms)
        while not gate:
            time.sleep(0.01)

    run_scheduler()
    run_worker(broker)
    add(work, "s", every=SECOND, overlap="queue")
    eventually(lambda: manage.find(store, "s").state.skipped == 1)
    assert len(began) == 1
    manage.pause(store, "s")  # no further time interferes
    manage.resume(store, "s")
    gate.append(True)
    eventually(lambda: len(began) >= 2)
    assert began[1] == began[0] + 1000, "the one that was queued, not a later one"


def test_the_end_of_a_job_starts_the_one_that_waits(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, run_worker: RunWorker
) -> None:
    began: list[float] = []
    gate: list[bool] = []

    @fourlane.task
    def work() -> None:
        began.append(time.monotonic())
        while not gate:
            time.sleep(0.01)

    run_scheduler()
    run_worker(broker)
    now = datetime.now(UTC)
    add(work, "s", at=[now + timedelta(seconds=0.3), now + timedelta(seconds=0.8)], overlap="queue")
    eventually(lambda: history(store, "s") == ["running", "queued"])
    gate.append(True)
    eventually(lambda: len(began) == 2, 8)  # without being told, a scheduler looks again after ten seconds
    eventually(lambda: history(store, "s") == ["done", "queued", "done"])


def test_a_pause_holds_the_one_that_waits(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, link: Link
) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "s", cron="0 0 1 1 *", overlap="queue")
    _, state, text = schedules.read(store, "default", ["s"])["s"]
    waits = schedules.encode(msgspec.structs.replace(state, queued_ms=1_000, job="3gone_________", paused=True))
    assert schedules.write(store, "default", [schedules.Write("s", text, None, waits, 0)])
    run_scheduler()
    schedules.ended(store, "default", "s", "e 1 3gone_________ done 1 1")
    keys = store.service("default")
    eventually(lambda: not store.connector.command(keys.fires, "ZCARD", keys.fires))
    assert jobs(store) == []
    manage.resume(store, "s")
    schedules.ended(store, "default", "s", "e 1 3gone_________ done 1 1")
    eventually(lambda: jobs(store))


def test_the_one_that_waits_goes_before_a_later_time(broker: RedisBroker, store: Store, link: Link) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "s", every=SECOND, overlap="queue")
    first = rewind(store, "s", 2, queued_ms=1_000, job="3gone_________")
    schedule, state, text = schedules.read(store, "default", ["s"])["s"]
    now = schedules.now_ms(store, "default")
    waiting, later = requests(schedule, state, text, now, now + 1_000)
    # The job before was alive when the first was sent, and has ended when the second is.
    assert schedules.fire(store, link, "default", [later])[1] == ["fired"]
    assert [j.options["scheduled_for"] for j in jobs(store)] == [1_000]
    assert manage.find(store, "s").state.queued_ms == first
    assert schedules.fire(store, link, "default", [waiting])[1] == ["moved"]


def test_replace_cancels_the_job_before(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, run_worker: RunWorker
) -> None:
    said: list[str] = []

    @fourlane.task
    async def work() -> None:
        import asyncio

        said.append("begun")
        try:
            await asyncio.sleep(60)
        except BaseException:
            said.append("cancelled")
            raise

    run_scheduler()
    loop = run_worker(broker)
    add(work, "s", every=timedelta(seconds=2), overlap="replace", max_runs=2)
    eventually(lambda: said.count("begun") == 1)
    eventually(lambda: manage.find(store, "s").state.runs == 2)
    # In a thread of the test no supervisor beats and hears of cancelled jobs: tell the loop as one would.
    keys = store.service("default")
    told = {i.decode() for i in store.connector.command(keys.cancels, "ZRANGE", keys.cancels, 0, -1)}
    loop.told_cancelled(told)
    eventually(lambda: said.count("begun") == 2 and "cancelled" in said)
    eventually(lambda: history(store, "s") == ["cancelled", "running"])


def test_callbacks_hear_that_a_job_was_replaced(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, run_worker: RunWorker
) -> None:
    heard: list[str] = []
    fourlane.task(name="hear")(lambda message, error: heard.append(error["type"]))
    work = fourlane.task(name="work", on_failure="hear")(lambda: None)
    run_scheduler()
    now = datetime.now(UTC)
    add(work, "s", at=[now + timedelta(seconds=0.3), now + timedelta(seconds=0.6)], overlap="replace")
    eventually(lambda: manage.find(store, "s").state.runs == 2)
    run_worker(broker)
    eventually(lambda: heard == ["JobCancelled"])


def test_allow_lets_them_run_together(broker: RedisBroker, store: Store, run_scheduler: RunScheduler) -> None:
    @fourlane.task
    def work() -> None: ...

    run_scheduler()
    add(work, "s", every=SECOND, overlap="allow")
    eventually(lambda: len(jobs(store)) == 3)
    assert manage.find(store, "s").state.skipped == 0


def test_a_dead_job_does_not_hold_its_schedule(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, run_worker: RunWorker
) -> None:
    runs: list[int] = []

    @fourlane.task(max_retries=0)
    def work() -> None:
        runs.append(1)
        raise ValueError("no")

    run_scheduler()
    run_worker(broker)
    add(work, "s", every=SECOND)
    eventually(lambda: len(runs) == 3)
    assert manage.find(store, "s").state.skipped == 0


def test_a_dead_letter_whose_end_nobody_told(broker: RedisBroker, store: Store, link: Link) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "s", cron="0 0 1 1 *")
    dead = manage.fire(store, "s")
    ask = Ask(1, "3", beat=True, look=True, control=True, silence_ms=60_000)
    leased = store.turn(link, "default", "w", ask).jobs[0]

    def again(job_id: str) -> list[str]:
        text = schedules.read(store, "default", ["s"])["s"][2]
        request = Fire("s", text, 0, job_id, b'["work"]', dead, text, 0, "f 1 1", b"", 0, "")
        return schedules.fire(store, link, "default", [request])[1]

    assert again("3aaaaaaaaaaaaa") == ["alive"]
    store.turn(link, "default", "w", Ask(beat=True), others=[(leased.entry, Dead("poison", "", b""))])
    assert again("3bbbbbbbbbbbbb") == ["fired"]


# Change ----------------------------------------------------------------------------------------------------


def test_upsert_by_name(broker: RedisBroker, store: Store) -> None:
    @fourlane.task
    def work(a: int) -> None: ...

    add(work, "s", cron="0 0 1 1 *", args=[1])
    before = manage.find(store, "s")
    assert not manage.put(store, before.schedule), "nothing changed"
    add(work, "s", cron="0 0 1 1 *", args=[2])
    after = manage.find(store, "s")
    assert after.schedule.args == [2]
    assert after.state.next_ms == before.state.next_ms
    assert after.state.version != before.state.version
    add(work, "s", cron="0 0 1 6 *", args=[2])
    assert manage.find(store, "s").state.next_ms != before.state.next_ms
    assert [f.schedule.name for f in manage.every_schedule(store)] == ["s"]


def test_an_edit_does_not_lose_what_is_due(broker: RedisBroker, store: Store) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "s", every=timedelta(seconds=2))
    first = rewind(store, "s", 10)
    add(work, "s", every=timedelta(seconds=1))
    assert manage.find(store, "s").state.next_ms == first
    add(work, "s", every=timedelta(seconds=3))
    assert 0 <= manage.find(store, "s").state.next_ms - first < 3000


def test_an_edit_in_between_voids_what_a_scheduler_prepared(broker: RedisBroker, store: Store, link: Link) -> None:
    @fourlane.task
    def work(a: int) -> None: ...

    add(work, "s", cron="0 0 1 1 *", args=[1])
    _, _, text = schedules.read(store, "default", ["s"])["s"]
    prepared = Fire("s", text, 0, "3aaaaaaaaaaaaa", codec.encode("work", [1]), "", text, 0, "f 1 1")
    add(work, "s", cron="0 0 1 1 *", args=[2])
    assert schedules.fire(store, link, "default", [prepared])[1] == ["moved"]


def test_pause_resume_fire_remove(broker: RedisBroker, store: Store, run_scheduler: RunScheduler) -> None:
    @fourlane.task
    def work() -> None: ...

    run_scheduler()
    add(work, "s", every=SECOND, overlap="allow")
    eventually(lambda: jobs(store))
    assert manage.pause(store, "s")
    assert not manage.pause(store, "s")
    count = len(jobs(store))
    assert manage.find(store, "s").due_ms == 0
    rewind(store, "s", 2)
    job_id = manage.fire(store, "s")
    made = eventually(lambda: len(jobs(store)) > count and jobs(store))
    assert len(made) == count + 1, "paused, it fires by hand only"
    assert manage.history(store, "s")[0].manual
    assert manage.history(store, "s")[0].job == job_id
    assert manage.resume(store, "s")
    eventually(lambda: len(jobs(store)) > count + 1)
    manage.remove(store, "s")
    with pytest.raises(ScheduleNotFound, match="there is no schedule 's'"):
        manage.find(store, "s")
    with pytest.raises(ScheduleNotFound):
        manage.fire(store, "s")
    keys = store.service("default")
    left = [keys.schedules, keys.states, keys.fires, keys.lateness, keys.runs("s")]
    assert store.connector.command(keys.jobs, "EXISTS", *left) == 0, "nothing is left behind"


def test_the_history_is_bounded(broker: RedisBroker, store: Store, run_scheduler: RunScheduler) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "s", every=SECOND, overlap="allow", catch_up="all")
    rewind(store, "s", 700)
    run_scheduler()
    eventually(lambda: len(jobs(store)) > 700, 20)
    keys = store.service("default")
    assert store.connector.command(keys.jobs, "LLEN", keys.runs("s")) <= 250
    assert len(manage.history(store, "s")) == 100


def test_late_jobs_are_warned_of(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "s", every=SECOND, late_after_seconds=5)
    rewind(store, "s", 10)
    with caplog.at_level(logging.WARNING, "fourlane.scheduler"):
        run_scheduler()
        eventually(lambda: "late schedule=s" in caplog.text)
    assert max(run.late_ms for run in manage.history(store, "s")) >= 9_000


def test_a_damaged_schedule_harms_no_other(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "bad", every=SECOND)
    keys = store.service("default")
    store.connector.command(keys.schedules, "HSET", keys.schedules, "bad", "{")
    run_scheduler()
    add(work, "good", every=SECOND, overlap="allow")
    eventually(lambda: len(jobs(store)) >= 2)
    assert {j.options["schedule"] for j in jobs(store)} == {"good"}
    assert caplog.text.count("unreadable schedule(s) in default: bad") == 1


def test_a_finished_schedule_is_dropped_after_a_week(
    broker: RedisBroker, store: Store, run_scheduler: RunScheduler
) -> None:
    @fourlane.task
    def work() -> None: ...

    run_scheduler()
    add(work, "once", at=[datetime.now(UTC) + timedelta(seconds=0.2)])
    eventually(lambda: jobs(store))
    keys = store.service("default")
    due = float(store.connector.command(keys.fires, "ZSCORE", keys.fires, "once"))
    assert due - schedules.now_ms(store, "default") > 6.9 * 86_400_000
    store.connector.command(keys.fires, "ZADD", keys.fires, 1, "once")
    schedules.tell(store)
    eventually(lambda: not schedules.names(store, "default"))


def test_spread_and_jitter_delay_and_repeat_themselves(broker: RedisBroker) -> None:
    from fourlane.scheduler.plan import due_ms

    calm = Schedule(name="a", service="s", task="t", every_ms=1000)
    spread = msgspec.structs.replace(calm, spread_ms=60_000)
    jitter = msgspec.structs.replace(calm, jitter_ms=60_000)
    moments = range(0, 10_000_000, 100_000)
    assert all(due_ms(calm, m) == m for m in moments)
    assert len({due_ms(spread, m) - m for m in moments}) == 1
    assert len({due_ms(jitter, m) - m for m in moments}) > 50
    names = [msgspec.structs.replace(spread, name=str(n)) for n in range(100)]
    assert len({due_ms(s, 0) for s in names}) > 50
    assert all(0 <= due_ms(s, 0) <= 60_000 for s in names)


def test_a_year_of_missed_seconds_is_planned_at_once() -> None:
    from fourlane.scheduler.plan import Missed, Nominal, plan

    schedule = Schedule(name="a", service="s", task="t", cron="* * * * * *", overlap="allow")
    now = 1_800_000_000_000
    began = time.monotonic()
    steps = plan(schedule, State(version="", next_ms=now - 365 * 86_400_000), now)
    assert time.monotonic() - began < 1
    assert isinstance(steps[0], Missed)
    assert [s.nominal_ms for s in steps if isinstance(s, Nominal)] == list(range(now - 60_000, now + 1, 1000))


# Bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"cron": "0 0 30 2 *"}, "never fires"),
        ({"cron": "0 0 * * *", "timezone": "Mars/Olympus"}, "no time zone"),
        ({"cron": "0 0 * * *", "args": [1, 2, 3]}, "do not fit work: too many positional"),
        ({"cron": "0 0 * * *", "args": []}, "missing a required argument: 'a'"),
        ({"cron": "0 0 * * *", "kwargs": {"a": 1, "zz": 2}, "args": []}, "unexpected keyword"),
        ({"cron": "0 0 * * *", "args": [{1}]}, "cannot be carried as JSON"),
        (
            {"cron": "0 0 * * *", "start": datetime(2030, 1, 2, tzinfo=UTC), "end": datetime(2030, 1, 1, tzinfo=UTC)},
            "end lies before its start",
        ),
        (
            {"cron": "0 0 1 1 *", "start": datetime(2030, 2, 1, tzinfo=UTC), "end": datetime(2030, 3, 1, tzinfo=UTC)},
            "never fires",
        ),
        ({"cron": "0 0 * * *", "start": datetime(2030, 1, 2)}, "needs a time zone"),
        ({"cron": "0 0 * * *", "end": datetime(2020, 1, 2, tzinfo=UTC)}, "no time left"),
        ({"at": [datetime(2020, 1, 2, tzinfo=UTC)]}, "no time left"),
        ({"every": timedelta(seconds=0.5)}, "1 second or longer"),
        ({"every": timedelta(0)}, "1 second or longer"),
        ({"every": SECOND, "cron": "0 0 * * *"}, "exactly one"),
        ({}, "exactly one"),
        ({"every": SECOND, "overlap": "hope"}, "overlap must be one of skip, queue, replace, allow"),
        ({"every": SECOND, "catch_up": "some"}, "catch_up must be one of"),
        ({"every": SECOND, "tier": "P9"}, "is no tier"),
        ({"every": SECOND, "jitter_seconds": -1}, "jitter_ms must be 0 or more"),
        ({"every": SECOND, "jiter_seconds": 1}, "unknown option.* jiter_seconds"),
    ],
)
def test_refused(broker: RedisBroker, store: Store, options: dict[str, Any], reason: str) -> None:
    @fourlane.task
    def work(a: int) -> None: ...

    with pytest.raises(InvalidSchedule, match=reason) as refusal:
        add(work, "s", **{"args": [1]} | options)
    assert "'s'" in str(refusal.value)
    assert schedules.names(store, "default") == []


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 101, "ä", "a/b"])
def test_refused_names(broker: RedisBroker, name: str) -> None:
    @fourlane.task
    def work() -> None: ...

    with pytest.raises(InvalidSchedule, match="no schedule name"):
        add(work, name, every=SECOND)
