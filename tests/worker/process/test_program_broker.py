"""A program that sets a broker of its own, and the worker that is started for it: both are of one store."""

from __future__ import annotations

import pytest

from fourlane.job import State
from tests.workers import Workers, alive, eventually

PROGRAM = """
import os, dramatiq, fourlane, redis
db = redis.Redis.from_url(os.environ["SAID_URL"])

@fourlane.task
def declared_before(name):
    db.rpush(f"{os.environ['SAID']}:said:{fourlane.__name__}:{name}", os.getpid())

dramatiq.set_broker(fourlane.RedisBroker(%s))

@dramatiq.actor
def plain(name):
    db.rpush(f"{os.environ['SAID']}:said:plain:{name}", os.getpid())
"""


def start(workers: Workers, arguments: str, **env: str) -> str:
    """A worker of that program; returns its log."""
    (workers.folder / "program.py").write_text(PROGRAM % arguments)
    said = {"SAID_URL": workers.env["REDIS_URL"], "SAID": workers.namespace}
    process = workers.start("--slots", "2", module="program", **(said | env))
    if process.poll() is not None:
        assert process.poll() == 78, workers.log(process)
    return workers.log(process)


def test_a_broker_takes_from_the_settings_what_it_does_not_say(workers: Workers) -> None:
    """The namespace here, the environment, limits: with nothing but an address it is of its worker's store."""
    url = workers.env["REDIS_URL"].replace("127.0.0.1", "localhost")
    log = start(workers, f"url={url!r}", FOURLANE_ENVIRONMENT="local", FOURLANE_MAX_RETRIES="2")
    assert "ready:" in log
    plain, before = workers.send("plain", "x"), workers.send("declared_before", "y")
    eventually(lambda: workers.said("plain", "x") and workers.said("fourlane", "y"))
    eventually(lambda: plain.status() is before.status() is State.UNKNOWN)
    assert ".maintenance" in log  # the platform's own tasks are served too


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ('url=os.environ["REDIS_URL"], namespace="other"', ["namespace", "FOURLANE_NAMESPACE"]),
        ('url=os.environ["REDIS_URL"], environment="staging"', ["environment", "'staging'", "FOURLANE_ENVIRONMENT"]),
        ('url=os.environ["REDIS_URL"].rsplit("/", 1)[0] + "/9"', ["server", "/9", "REDIS_URL"]),
    ],
)
def test_a_worker_does_not_start_for_a_broker_of_another_store(
    workers: Workers, arguments: str, names: list[str]
) -> None:
    log = start(workers, arguments)
    assert "different jobs" in log
    assert all(name in log for name in names), log


PROGRAMS = """
import os, time, dramatiq, fourlane, redis
from dramatiq.middleware import Middleware

url = os.environ["REDIS_URL"]

def beside():
    \"\"\"As Prometheus' server of metrics.\"\"\"
    redis.Redis.from_url(url).rpush(os.environ["FOURLANE_NAMESPACE"] + ":said:beside:beside", os.getpid())
    time.sleep(60)

class Forks(Middleware):
    @property
    def forks(self):
        return [beside]

own = fourlane.RedisBroker(url=url, middleware=[Forks()])
other = fourlane.RedisBroker(url=url)

@dramatiq.actor(broker=own)
def plain(name):
    redis.Redis.from_url(url).rpush(f"{os.environ['FOURLANE_NAMESPACE']}:said:plain:{name}", os.getpid())

@dramatiq.actor(broker=other)
def elsewhere():
    pass

def set_up():
    dramatiq.set_broker(own)
"""


@pytest.mark.parametrize("named", ["own", "set_up"])
def test_the_broker_that_the_command_names_is_served(workers: Workers, named: str) -> None:
    """As ``dramatiq MODULE:BROKER``; and what its middleware wants to run beside runs, once, as long as the worker."""
    (workers.folder / "programs.py").write_text(PROGRAMS)
    process = workers.start("--processes", "2", "--slots", "1", module=f"programs:{named}")
    workers.send("plain", "x")
    eventually(lambda: workers.said("plain", "x"))
    eventually(lambda: workers.said("beside", "beside"))
    [beside] = workers.said("beside", "beside")
    assert "another broker (elsewhere) are not served" in workers.log(process)
    assert alive(beside)
    process.terminate()
    assert process.wait(20) == 0
    eventually(lambda: not alive(beside))
    assert len(workers.said("beside", "beside")) == 1
