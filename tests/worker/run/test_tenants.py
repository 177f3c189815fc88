"""On whose behalf a job runs, and those that it enqueues."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import uuid
from typing import Any

import dramatiq
import pytest
from dramatiq import pipeline

import fourlane
from fourlane import codec
from fourlane.errors import InvalidName, Reject
from fourlane.job import State
from fourlane.observe import logs
from fourlane.queues import dead_letters
from fourlane.queues.broker import RedisBroker
from fourlane.queues.dead_letters import Filter
from fourlane.tasks.task import current_job, task
from tests.command import Command
from tests.command import command as command
from tests.servers import eventually
from tests.worker.conftest import RunWorker


def here() -> str:
    now = current_job()
    assert now is not None
    return now.tenant


def test_a_job_knows_its_tenant(broker: RedisBroker, run_worker: RunWorker) -> None:
    seen: dict[str, str] = {}

    @task
    def plain(name: str) -> None:
        seen[name] = here()

    @task
    async def later(name: str) -> None:
        await asyncio.sleep(0)
        seen[name] = await asyncio.to_thread(here)

    sent = plain.send_with_options(args=["plain"], tenant="acme")
    assert (sent.info().tenant, sent.info().options) == ("acme", {"tenant": "acme"})
    organization = uuid.uuid4()
    plain.send_with_options(args=["uuid"], tenant=organization)
    plain.send_many([["many"]], tenant="acme")
    plain.send("none")
    later.send_with_options(args=["async"], tenant="acme")
    run_worker(broker)
    eventually(lambda: len(seen) == 5)
    assert seen == {"plain": "acme", "uuid": str(organization), "many": "acme", "none": "", "async": "acme"}


def test_jobs_without_one_carry_nothing(broker: RedisBroker) -> None:
    @task
    def plain(name: str) -> None: ...

    sent = plain.send_with_options(args=["a"], tenant="")
    keys = broker.store.service("default")
    assert broker.store.connector.command(keys.jobs, "HGET", keys.jobs, sent.id) == codec.encode("plain", ["a"])


def test_what_a_job_enqueues_is_of_its_tenant(broker: RedisBroker, run_worker: RunWorker) -> None:
    seen: dict[str, str] = {}

    @task
    def child(name: str) -> str:
        seen[name] = here()
        return name + " and on"

    @dramatiq.actor
    def actor(name: str) -> None:
        seen[name] = here()

    @task
    async def parent() -> None:
        child.send("send")
        child.send_with_options(args=["other"], tenant="globex")
        child.send_with_options(args=["none"], tenant="")
        child.send_with_options(args=["delayed"], delay=5)
        child.send_many([["many"]])
        await child.asend("asend")
        actor.send("actor")
        pipeline([child.message("piped"), actor.message()]).run()

    @task
    def bystander() -> None:
        child.send("of nobody")

    names = ["send", "other", "none", "delayed", "many", "asend", "actor", "piped", "piped and on", "of nobody"]
    run_worker(broker, slots=1)
    parent.send_with_options(tenant="acme")
    bystander.send()
    eventually(lambda: set(seen) == set(names))
    assert seen == dict.fromkeys(names, "acme") | {"other": "globex", "none": "", "of nobody": ""}


def test_a_retry_keeps_it(broker: RedisBroker, run_worker: RunWorker) -> None:
    seen: list[str] = []

    @dramatiq.actor(min_backoff=1, max_backoff=2)
    def flaky() -> None:
        seen.append(here())
        if len(seen) < 2:
            raise OSError("once")

    run_worker(broker)
    flaky.send_with_options(tenant="acme")
    eventually(lambda: seen == ["acme", "acme"])


def test_dead_letters_are_found_by_it(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task
    def refuse() -> None:
        raise Reject("no")

    run_worker(broker)
    sent = [refuse.send_with_options(tenant=tenant) for tenant in ("acme", "globex", "")]
    eventually(lambda: all(one.status() is State.DEAD for one in sent))
    found = dead_letters.find(broker.store, Filter(tenant="acme")).letters
    assert [(letter.id, letter.tenant) for letter in found] == [(sent[0].id, "acme")]
    assert [letter.id for letter in dead_letters.find(broker.store, Filter(tenant="")).letters] == [sent[2].id]
    assert dead_letters.count(broker.store, Filter(tenant="globex")) == 1
    assert dead_letters.replay(broker.store, Filter(tenant="globex"), dry_run=True) == 1
    assert dead_letters.count(broker.store, Filter(tenant="globex", task="other")) == 0


def test_at_the_command_line(command: Command) -> None:
    command.module("shop", "import fourlane\n@fourlane.task\ndef refuse(): raise fourlane.Reject('no')")
    ids = [
        json.loads(command("enqueue", "refuse", "--module", "shop", *words, "--json").stdout)["id"]
        for words in (["--tenant", "acme"], ["--tenant", "globex"], [])
    ]
    shown = command("jobs", "show", ids[0]).stdout.splitlines()
    assert "tenant    acme" in shown
    assert json.loads(command("jobs", "show", ids[2], "--json").stdout)["tenant"] == ""
    worker = command.start("worker", "shop")
    eventually(lambda: json.loads(command("dead", "list", "--json").stdout)["total"] == 3, 40)
    [letter] = json.loads(command("dead", "list", "--tenant", "acme", "--json").stdout)["letters"]
    assert (letter["id"], letter["tenant"]) == (ids[0], "acme")
    [header, row] = command("dead", "list", "--tenant", "globex").stdout.splitlines()
    assert (header.split()[4], row.split("refuse")[1].split()[0]) == ("TENANT", "globex")
    assert "replayed 1 dead" in command("dead", "replay", "--tenant", "acme", "--yes").stdout
    worker.terminate()
    wrong = command("enqueue", "refuse", "--module", "shop", "--tenant", "x" * 201)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "is no tenant" in wrong.stderr


def test_its_log_lines_say_it(broker: RedisBroker, run_worker: RunWorker) -> None:
    """Those of the function, and those of the worker about the job."""
    log, handler = logging.getLogger("fourlane.worker"), logging.StreamHandler(stream := io.StringIO())
    handler.setFormatter(logs._Json("shop"))
    log.addHandler(handler)

    @task
    def tell() -> None:
        log.warning("hello")
        raise Reject("no")

    try:
        run_worker(broker)
        sent = [tell.send_with_options(tenant="acme"), tell.send()]
        eventually(lambda: all(one.status() is State.DEAD for one in sent))
    finally:
        log.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    whose = {(line["message"].split()[0], line["metadata"].get("organization_id", "")) for line in lines}
    assert whose == {("hello", "acme"), ("hello", ""), ("dead", "acme"), ("dead", "")}


@pytest.mark.parametrize("wrong", ["x" * 201, "two\nlines", 7, b"acme"])
def test_what_is_no_tenant_is_refused(broker: RedisBroker, wrong: Any) -> None:
    @fourlane.task
    def plain() -> None: ...

    with pytest.raises(InvalidName, match="is no tenant"):
        plain.send_with_options(tenant=wrong)
    with pytest.raises(InvalidName, match="is no tenant"):
        plain.send_many([[]], tenant=wrong)
