"""``fourlane schedules``, ``fourlane scheduler`` and ``fourlane worker --scheduler``."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from fourlane.cli import main
from fourlane.queues import schedules
from fourlane.queues.broker import RedisBroker
from fourlane.queues.schedules import Schedule
from fourlane.queues.store import Store
from fourlane.scheduler import manage
from fourlane.scheduler.ticker import Scheduler
from tests.command import Command
from tests.servers import eventually

Run = Callable[..., Result]

TASKS = """
import fourlane

@fourlane.cron("0 3 * * *", timezone="Europe/Berlin", args=["de"])
@fourlane.task
def invoice(country: str) -> None: ...

@fourlane.every(seconds=1, name="beat", overlap="allow")
@fourlane.task
def beat() -> None:
    print("beat", fourlane.current_job().scheduled_for_ms, flush=True)
"""


@pytest.fixture
def run(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the CLI on the shared server; ``code`` is the exit code that it must have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("FOURLANE_NAMESPACE", namespace)

    def invoke(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, args, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def command(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path, REDIS_URL=redis_url, FOURLANE_NAMESPACE=namespace)
    made.module("cron_tasks", TASKS)
    yield made
    made.close()


def put(store: Store, name: str = "daily", **fields: Any) -> None:
    manage.put(store, Schedule(name=name, service="default", task="work", **({"cron": "0 3 * * *"} | fields)))


def test_list_and_show(run: Run, store: Store) -> None:
    assert run("schedules").stdout == "there are no schedules\n"
    put(store, timezone="Europe/Berlin", args=["de"], kwargs={"days": 7}, max_runs=9)
    put(store, "often", cron="", every_ms=90_000)
    listed = run("schedules", "list").stdout
    assert "0 3 * * * Europe/Berlin" in listed
    assert "every 1m 30s" in listed
    shown = run("schedules", "show", "daily").stdout
    assert "work('de', days=7)" in shown
    assert "0 of 9" in shown
    assert len(shown.partition("UTC\n")[2].splitlines()) == 5, "the next times"
    fields = json.loads(run("schedules", "show", "daily", "--json").stdout)
    assert fields["cron"] == "0 3 * * *"
    assert len(fields["next"]) == 5
    assert len(json.loads(run("schedules", "list", "--json").stdout)["schedules"]) == 2
    assert "there is no schedule 'nope'" in run("schedules", "show", "nope", code=1).stderr


def test_preview_in_local_time_and_utc(run: Run) -> None:
    args = ("schedules", "preview", "30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2026-10-24", "--count", "3")
    lines = run(*args).stdout.splitlines()
    assert lines[0].split() == ["Europe/Berlin", "UTC"]
    assert [line.split() for line in lines[1:]] == [
        ["2026-10-24", "02:30:00", "CEST", "2026-10-24", "00:30:00"],
        ["2026-10-25", "02:30:00", "CEST", "2026-10-25", "00:30:00"],
        ["2026-10-26", "02:30:00", "CET", "2026-10-26", "01:30:00"],
    ]
    both = json.loads(run(*args, "--twice", "--json").stdout)["next"]
    assert [t["utc"] for t in both][1:] == ["2026-10-25T00:30:00+00:00", "2026-10-25T01:30:00+00:00"]
    assert len(run("schedules", "preview", "* * * * *").stdout.splitlines()) == 11
    assert "never fires" in run("schedules", "preview", "0 0 30 2 *", code=1).stderr
    assert "no time zone" in run("schedules", "preview", "0 0 1 2 *", "--timezone", "X/Y", code=1).stderr
    assert "is no moment" in run("schedules", "preview", "0 0 1 2 *", "--from", "soon", code=2).stderr


def test_pause_fire_history_resume_remove(run: Run, store: Store) -> None:
    put(store)
    assert run("schedules", "pause", "daily").stdout == "daily is paused\n"
    assert "paused" in run("schedules").stdout
    assert json.loads(run("schedules", "pause", "daily", "--json").stdout) == {"name": "daily", "changed": False}
    job_id = run("schedules", "fire", "daily").stdout.strip()
    assert run("jobs", "show", job_id).exit_code == 0
    assert "ready, by hand" in run("schedules", "history", "daily").stdout
    assert json.loads(run("schedules", "history", "daily", "--json").stdout)["runs"][0]["job"] == job_id
    assert "fires next: 20" in run("schedules", "resume", "daily").stdout
    assert "say --yes" in run("schedules", "remove", "daily", code=2).stderr
    run("schedules", "remove", "daily", "--yes")
    assert run("schedules").stdout == "there are no schedules\n"


def test_services_with_schedules_of_one_name(run: Run, store: Store) -> None:
    put(store)
    manage.put(store, Schedule(name="daily", service="billing", task="work", cron="0 5 * * *"))
    assert "billing, default have a schedule 'daily' each" in run("schedules", "show", "daily", code=1).stderr
    assert "0 5 * * *" in run("schedules", "show", "daily", "--service", "billing").stdout


def test_add(command: Command, store: Store) -> None:
    add = ("schedules", "add", "x", "--module", "cron_tasks", "--task", "invoice")
    assert command(*add, "--every", "90s", "--args", '["at"]').stdout == "x: every 1m 30s\n"
    done = command(
        *add, "--cron", "0 6 * * mon", "--timezone", "Asia/Tokyo", "--kwargs", '{"country": "jp"}', "--tier", "low",
        "--start", "2030-01-01", "--end", "2031-01-01T00:00Z", "--max-runs", "5", "--spread", "1m", "--jitter", "2s",
        "--catch-up", "all", "--catch-up-window", "2h", "--overlap", "queue", "--late-after", "10s", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = manage.find(store, "x").schedule
    assert json.loads(done.stdout)["schedule"]["cron"] == found.cron == "0 6 * * mon"
    assert (found.kwargs, found.tier, found.max_runs, found.overlap) == ({"country": "jp"}, 2, 5, "queue")
    assert (found.spread_ms, found.jitter_ms, found.catch_up_window_ms, found.late_after_ms) == (
        60_000, 2_000, 7_200_000, 10_000,
    )  # fmt: skip
    assert found.start_ms == 1_893_423_600_000, "midnight in Tokyo"
    for more, reason in (
        (["--every", "90s"], "missing a required argument: 'country'"),
        (["--cron", "0 0 * *", "--args", '["x"]'], "4 fields"),
        (["--args", '["x"]'], "exactly one"),
        (["--at", "2020-01-01", "--args", '["x"]'], "no time left"),
    ):
        refused = command(*add, *more)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1, refused.stderr
        assert reason in refused.stderr
    refused = command("schedules", "add", "x", "--task", "nope", "--every", "1m")
    assert "no task 'nope'" in refused.stderr


def test_a_worker_declares_fires_and_notes(command: Command, store: Store) -> None:
    worker = command.start("worker", "cron_tasks", "--scheduler", stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    said = [worker.stdout.readline() for _ in range(3)]
    nominal = [int(line.split()[1]) for line in said]
    assert nominal == [nominal[0], nominal[0] + 1000, nominal[0] + 2000]
    assert manage.find(store, "invoice").schedule.place == "cron_tasks, line 4"
    eventually(lambda: "done" in [run.state for run in manage.history(store, "beat")])
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_a_scheduler_alone(command: Command, store: Store) -> None:
    alone = command.start("scheduler", "cron_tasks", stderr=subprocess.PIPE, text=True)
    eventually(lambda: schedules.names(store, "default"))
    eventually(lambda: manage.history(store, "beat"))
    alone.send_signal(signal.SIGTERM)
    assert alone.wait(30) == 0
    wrong = command("scheduler", "no_such_module")
    assert wrong.returncode == 1
    assert "no_such_module" in wrong.stderr
    assert wrong.stderr.count("\n") == 1


def test_dev_fires_schedules_unless_told_not_to(command: Command, store: Store) -> None:
    dev = command.start("dev", "cron_tasks", stdout=subprocess.PIPE, text=True)
    assert dev.stdout is not None
    assert dev.stdout.readline().startswith("beat ")
    dev.send_signal(signal.SIGTERM)
    assert dev.wait(20) == 0
    manage.remove(store, "beat", force=True)
    quiet = command.start("dev", "cron_tasks", "--no-scheduler", stderr=subprocess.PIPE, text=True)
    assert quiet.stderr is not None
    eventually(lambda: "ready:" in quiet.stderr.readline(), 20)  # type: ignore[union-attr]
    eventually(lambda: schedules.names(store, "default") == ["beat", "invoice"])
    with redis.Redis.from_url(command.env["REDIS_URL"]) as client:
        eventually(lambda: not client.exists(store.service("default").lead))  # a second's schedule always has a leader


@pytest.mark.cluster
def test_schedules_on_a_cluster(cluster_urls: list[str], namespace: str) -> None:
    import threading

    broker = RedisBroker(client=redis.RedisCluster.from_url(cluster_urls[0]), namespace=namespace)
    store = broker.store
    scheduler = Scheduler(store)
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    services = ("alpha", "beta", "gamma", "delta")
    try:
        for service in services:
            manage.put(store, Schedule(name="s", service=service, task="t", every_ms=1000, overlap="allow"))
        eventually(lambda: all(len(manage.history(store, "s", service)) >= 2 for service in services))
        late = [run.late_ms for service in services for run in manage.history(store, "s", service)[:-1]]
        assert max(late) < 500, late
        for service in services:
            manage.remove(store, "s", service)
    finally:
        scheduler.stop()
        thread.join(10)
        broker.close()
    assert not thread.is_alive()


def test_an_idle_scheduler_asks_nothing(redis_server: Any, namespace: str) -> None:
    import threading

    from fourlane.queues.redis import Connector, client_of

    def calls() -> dict[str, int]:
        counts = redis_server.info("commandstats")
        own = ("info", "client", "hello", "select", "ping")  # what reading them costs
        return {
            k: int(v.split("calls': ")[1].split(",")[0])
            for k, v in counts.items()
            if not k.split("_")[1].startswith(own)
        }

    store = Store(Connector(client_of(redis_server.url)), namespace=namespace)
    scheduler = Scheduler(store)
    thread = threading.Thread(target=scheduler.run)
    try:
        put(store, "s", cron="0 0 1 1 *")
        thread.start()
        eventually(lambda: "cmdstat_bzpopmin" in calls())
        eventually(lambda: _same_for(1.0, calls))
        put(store, "s", cron="0 0 1 2 *")
        eventually(lambda: _same_for(1.0, calls))
    finally:
        scheduler.stop()
        thread.join(15)
        store.connector.close()


def _same_for(seconds: float, read: Callable[[], Any]) -> bool:
    """Whether nothing changes for so long."""
    before = read()
    time.sleep(seconds)
    return bool(read() == before)


def test_an_outage_of_redis_delays_and_loses_nothing(broker: RedisBroker, redis_server: Any, namespace: str) -> None:
    import threading

    from fourlane.queues.redis import Connector, client_of

    store = Store(Connector(client_of(redis_server.url)), namespace=namespace)
    scheduler = Scheduler(store)
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    try:
        put(store, "s", cron="", every_ms=1000, overlap="allow")
        eventually(lambda: manage.history(store, "s"))
        redis_server.kill()
        redis_server.start()
        first = manage.find(store, "s").state.last_ms
        eventually(lambda: manage.find(store, "s").state.last_ms >= first + 2000, 20)
        nominal = [run.nominal_ms for run in reversed(manage.history(store, "s"))]
        assert nominal == list(range(nominal[0], nominal[-1] + 1, 1000))
    finally:
        scheduler.stop()
        thread.join(15)
        store.connector.close()
    assert not thread.is_alive()
