"""Real processes: five schedulers, killed and stopped at random, with wrong clocks; a worker that schedules too."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

import fourlane
from fourlane import codec
from fourlane.queues import schedules
from fourlane.queues.broker import RedisBroker
from fourlane.queues.store import Store
from fourlane.scheduler import manage
from fourlane.scheduler.declare import add
from tests.servers import eventually

SECONDS = 12
SCHEDULES = 20

# A scheduler alone, whose process reads a wrong clock.
SCHEDULER = """
import os, sys, time, threading
skew, real = float(sys.argv[1]), time.time
time.time = lambda: real() + skew
from fourlane.app import App
from fourlane.scheduler.ticker import Scheduler
scheduler = Scheduler(App().store)
sys.stdout.write("up\\n"); sys.stdout.flush()
scheduler.run()
"""


class Schedulers:
    def __init__(self, url: str, namespace: str) -> None:
        source = str(Path(fourlane.__file__).parents[1])
        self.env = os.environ | {"REDIS_URL": url, "FOURLANE_NAMESPACE": namespace, "PYTHONPATH": source}
        self.running: list[subprocess.Popen[str]] = []

    def start(self, skew: float) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", SCHEDULER, str(skew)], env=self.env, text=True, stdout=subprocess.PIPE
        )
        self.running.append(process)

    def kill(self, process: subprocess.Popen[str]) -> None:
        self.running.remove(process)
        process.kill()
        process.communicate()

    def wait(self) -> None:
        for process in self.running:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"


@pytest.fixture
def schedulers(redis_url: str, namespace: str) -> Iterator[Schedulers]:
    group = Schedulers(redis_url, namespace)
    yield group
    for process in list(group.running):
        process.send_signal(signal.SIGCONT)
        group.kill(process)


def fired(store: Store) -> Counter[tuple[str, int]]:
    """How many jobs there are for each schedule and nominal time."""
    keys = store.service("default")
    bodies = store.connector.command(keys.jobs, "HVALS", keys.jobs)
    options = [codec.decode(body).options for body in bodies]
    return Counter((o["schedule"], o["scheduled_for"]) for o in options)


def leading(store: Store) -> int:
    """The process id of the scheduler that leads; 0 when none does."""
    key = store.service("default").lead
    name = store.connector.command(key, "GET", key)
    return int(name.decode().split("-")[-2]) if name else 0


def test_five_schedulers_fire_each_nominal_time_once(broker: RedisBroker, store: Store, schedulers: Schedulers) -> None:
    @fourlane.task
    def work() -> None: ...

    rng = random.Random()
    names = [f"s{number}" for number in range(SCHEDULES)]
    for name in names:
        add(work, name, every=timedelta(seconds=1), overlap="allow")
    for skew in (-60, -20, 0, 20, 60):
        schedulers.start(skew)
    schedulers.wait()
    began = schedules.now_ms(store, "default")
    killed = stopped = 0
    asleep: dict[subprocess.Popen[str], float] = {}
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        time.sleep(rng.uniform(0.05, 0.4))
        for process in [p for p, until in asleep.items() if until <= time.monotonic()]:
            process.send_signal(signal.SIGCONT)
            del asleep[process]
        awake = [p for p in schedulers.running if p not in asleep]
        leader = [p for p in awake if p.pid == leading(store)]
        victim = rng.choice(leader if leader and rng.random() < 0.5 else awake)
        if rng.random() < 0.3:
            schedulers.kill(victim)
            schedulers.start(rng.uniform(-60, 60))
            killed += 1
        elif len(asleep) < 3:
            victim.send_signal(signal.SIGSTOP)  # it may have jobs prepared, and wakes when others lead
            asleep[victim] = time.monotonic() + rng.uniform(0.05, 6)
            stopped += 1
    for process in asleep:
        process.send_signal(signal.SIGCONT)
    assert killed > 3
    assert stopped > 3
    ended = schedules.now_ms(store, "default")
    eventually(lambda: all(manage.find(store, name).state.last_ms >= ended - 1000 for name in names))

    times = fired(store)
    assert set(times.values()) == {1}, [t for t, n in times.items() if n > 1]
    expected = range(began // 1000 * 1000 + 1000, ended - 1000, 1000)
    lost = [(name, nominal) for name in names for nominal in expected if (name, nominal) not in times]
    assert lost == []


def test_a_deploy_at_the_nominal_minute_loses_nothing(
    broker: RedisBroker, store: Store, schedulers: Schedulers
) -> None:
    @fourlane.task
    def work() -> None: ...

    now = schedules.now_ms(store, "default")
    add(work, "s", every=timedelta(days=1), anchor=_moment(now + 1500))
    schedulers.start(0)
    schedulers.wait()
    nominal = manage.find(store, "s").state.next_ms
    eventually(lambda: schedules.now_ms(store, "default") > nominal - 300)
    schedulers.kill(schedulers.running[0])  # it had the job prepared
    assert fired(store) == Counter()
    eventually(lambda: schedules.now_ms(store, "default") > nominal + 200)
    schedulers.start(0)
    eventually(lambda: fired(store))
    assert fired(store) == Counter({("s", nominal): 1})


def _moment(milliseconds: int) -> object:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def test_ten_thousand_in_the_same_second(broker: RedisBroker, store: Store, schedulers: Schedulers) -> None:
    @fourlane.task
    def work(number: int) -> None: ...

    now = schedules.now_ms(store, "default")
    at = now + 12_000
    many = []
    for number in range(10_000):
        schedule = schedules.Schedule(
            name=f"s{number}", service="default", task="work", args=[number], cron="0 3 * * *", timezone="Europe/Berlin"
        )
        write = manage.written(schedule, None, now)
        assert write is not None
        state = msgspec.structs.replace(schedules.read_state(write.new_state), next_ms=at)
        many.append(write._replace(new_state=schedules.encode(state), due_ms=at))
    store.announce("default")
    for first in range(0, len(many), 1000):
        assert schedules.write(store, "default", many[first : first + 1000])
    schedulers.start(0)
    schedulers.wait()
    eventually(lambda: len(fired(store)) == 10_000, 40, interval=0.2)
    keys = store.service("default")
    lines = store.connector.command(keys.lateness, "HVALS", keys.lateness)
    late = sorted(int(a) - int(d) for _, d, a in (line.split() for line in lines))
    print(f"late by ms: 100th {late[99]}, 990th {late[989]}, 5000th {late[4999]}, last {late[-1]}")
    assert late[-1] < 5_000  # 1 s where nothing else runs; docs/schedules.md has the figures
