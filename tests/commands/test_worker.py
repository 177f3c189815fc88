"""What ``fourlane worker`` and ``fourlane dev`` say."""

from __future__ import annotations

import re

from fourlane.job import State
from tests.conftest import StartServer
from tests.workers import Workers, eventually
from tests.workers import workers as workers


def test_a_worker_says_what_it_serves_and_what_fails(workers: Workers) -> None:
    process = workers.start("--processes", "2", "--slots", "3", "--concurrency", "50")
    log = workers.log(process)
    assert re.search(r"ready: 2 process\(es\) × 3 slots \(50 async jobs\), serving .*local\.jobs\.\*\.default", log)
    workers.send("quick", "q")
    failing, retried = workers.send("fail", "f"), workers.send("fail_twice", "r")
    eventually(lambda: failing.status() is retried.status() is State.DEAD)
    workers.wait_for(process, f"dead job={failing.id} task=fail attempt=1")
    workers.wait_for(process, f"retry job={retried.id} task=fail_twice attempt=1")
    eventually(lambda: workers.is_done("q"))
    process.terminate()
    assert process.wait(30) == 0
    assert "done job=" not in workers.log(process)


def test_a_password_is_not_shown(workers: Workers, start_server: StartServer) -> None:
    server = start_server(password="s3cret")
    process = workers.start(REDIS_URL=server.url)
    assert workers.log(process).splitlines()[0] == f"redis: redis://127.0.0.1:{server.port}/0"
    assert "s3cret" not in workers.log(process)


def test_dev_says_that_its_server_is_embedded_and_logs_every_job(workers: Workers) -> None:
    process = workers.start(command="dev", REDIS_URL="")
    sqs, first = workers.log(process).splitlines()[:2]
    assert sqs.startswith("sqs: moto's server at http://127.0.0.1:")
    assert first.startswith("redis: embedded valkey ")
    assert first.endswith(", data in .fourlane")
    attached = workers.start(REDIS_URL="")
    first = workers.log(attached).splitlines()[0]
    assert first.endswith(", embedded in the `fourlane dev` of .fourlane")


def test_dev_on_a_real_server_logs_every_job(workers: Workers) -> None:
    process = workers.start(command="dev")
    sent = workers.send("quick", "q")
    workers.wait_for(process, f"done job={sent.id} task=quick attempt=1")
