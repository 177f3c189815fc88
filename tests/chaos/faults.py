"""The catalogue of faults. Each is undone before it returns, and written down with its times and its victims.

Tracks run side by side, the faults of one track one after the other.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from tests.chaos.site import Fault, Process, Site
from tests.chaos.workload import KINDS, VERSIONS
from tests.servers import Server

__all__ = ["CATALOGUE", "Dice", "Kind", "choose", "order", "roll_out"]

SYNC_SECONDS = 15.0


@dataclass(frozen=True)
class Dice:
    """The choices of one fault. ``brief``: no longer than it takes to matter."""

    random: random.Random
    brief: bool

    def seconds(self, least: float, most: float) -> float:
        return least if self.brief else self.random.uniform(least, most)

    async def victim(self, site: Site, role: str = "worker") -> Process | None:
        """A process that works; None when none comes up within some seconds."""
        await site.until(lambda: bool(site.living(role)), 5)
        living = sorted(site.living(role), key=lambda process: process.name)
        return self.random.choice(living) if living else None


@dataclass(frozen=True)
class Kind:
    """A fault that can be asked for by its name."""

    name: str
    track: str
    run: Callable[[Site, Dice], Awaitable[None]]


CATALOGUE: dict[str, Kind] = {}


def fault(track: str) -> Callable[[Callable[[Site, Dice], Awaitable[None]]], Callable[[Site, Dice], Awaitable[None]]]:
    def add(run: Callable[[Site, Dice], Awaitable[None]]) -> Callable[[Site, Dice], Awaitable[None]]:
        name = run.__name__.replace("_", "-")
        CATALOGUE[name] = Kind(name, track, run)
        return run

    return add


def choose(words: str) -> list[Kind]:
    """``all``, ``none``, or names of faults and tracks with commas between. Raises ValueError."""
    if words in ("all", "none"):
        return list(CATALOGUE.values()) if words == "all" else []
    chosen: dict[str, Kind] = {}
    for word in words.split(","):
        found = {k.name: k for k in CATALOGUE.values() if word in (k.name, k.track)}
        if not found:
            tracks = sorted({k.track for k in CATALOGUE.values()})
            raise ValueError(f"{word!r} is no fault; there are {', '.join(CATALOGUE)}, and tracks {', '.join(tracks)}")
        chosen |= found
    return list(chosen.values())


def order(kinds: Sequence[Kind], seed: str) -> Iterator[tuple[Kind, random.Random]]:
    """Endless rounds, each of all kinds in another order. The same seed gives the same rounds and choices."""
    dice = random.Random(seed)
    while kinds:
        for kind in dice.sample(kinds, len(kinds)):
            yield kind, random.Random(dice.random())


@contextmanager
def noted(site: Site, name: str, effect: str, **facts: object) -> Iterator[Fault]:
    """A fault from now until the block ends; while it lasts its end is not known."""
    began = time.monotonic()
    made = site.note(Fault(name=name, effect=effect, began=began, ended=began + 3600, **facts))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.ended = time.monotonic()


# Kills and silences of processes ------------------------------------------------------------------------------


@fault("kills")
async def kill_child(site: Site, dice: Dice) -> None:
    worker = await dice.victim(site)
    if worker and (children := worker.children()):
        child = dice.random.choice(children)
        with noted(site, "kill-child", "kill", who=worker.name, pids=[child], parents=[worker.pid]):
            worker.signal(signal.SIGKILL, child)


@fault("kills")
async def freeze_child(site: Site, dice: Dice) -> None:
    worker = await dice.victim(site)
    if worker and (children := worker.children()):
        await _freeze(site, "freeze-child", worker, [dice.random.choice(children)], dice.seconds(1.5, 9))


@fault("kills")
async def kill_supervisor(site: Site, dice: Dice) -> None:
    worker = await dice.victim(site)
    if worker:
        with noted(site, "kill-supervisor", "kill", who=worker.name, pids=[worker.pid, *worker.children()]):
            worker.signal(signal.SIGKILL)
            await asyncio.sleep(0.6)  # until it is started again
        await site.ready(worker.name)


@fault("kills")
async def freeze_supervisor(site: Site, dice: Dice) -> None:
    if worker := await dice.victim(site):
        await _freeze(site, "freeze-supervisor", worker, [worker.pid], dice.seconds(6.5, 9))


@fault("kills")
async def freeze_worker(site: Site, dice: Dice) -> None:
    if worker := await dice.victim(site):
        await _freeze(site, "freeze-worker", worker, [worker.pid, *worker.children()], dice.seconds(2, 9))


async def _freeze(site: Site, name: str, process: Process, pids: list[int], seconds: float) -> None:
    process.frozen |= set(pids)
    try:
        with noted(site, name, "freeze", who=process.name, pids=pids):
            process.signal(signal.SIGSTOP, *pids)
            await asyncio.sleep(seconds)
            process.signal(signal.SIGCONT, *pids)
    finally:
        process.signal(signal.SIGCONT, *pids)
        process.frozen -= set(pids)


# Starts, stops, deploys -----------------------------------------------------------------------------------------


@fault("deploys")
async def restart_worker(site: Site, dice: Dice) -> None:
    if worker := await dice.victim(site):
        await _stop(site, "restart-worker", worker)
        site.want(worker.name, worker.version)
        await site.ready(worker.name)


@fault("deploys")
async def scale_up(site: Site, dice: Dice) -> None:
    """One more worker for a while, of another version: it knows tasks that others do not, and others it does not."""
    name = dice.random.choice(["ada", "bob"]) + "'"
    with noted(site, "scale-up", "work", who=name):
        site.want(name, _other_version(site, dice))
        await site.ready(name)
        await asyncio.sleep(dice.seconds(1, 12))
    await _stop(site, "scale-down", site.wanted[name])


@fault("deploys")
async def deploy(site: Site, dice: Dice) -> None:
    await roll_out(site, "all" if dice.brief else _other_version(site, dice))


def _other_version(site: Site, dice: Dice) -> str:
    return dice.random.choice(sorted(VERSIONS.keys() - {site.version, "all"}))


async def roll_out(site: Site, version: str) -> None:
    """New workers first, then the end of the old ones; those who send know the new tasks last."""
    old = [p for p in site.wanted.values() if p.role == "worker" and p.version != version and "'" not in p.name]
    for worker in old:
        site.want(worker.name, version)
    for worker in old:
        await site.ready(worker.name)
    site.set_version(version)
    await asyncio.gather(*(_stop(site, "deploy", worker) for worker in old if worker.lives))


@fault("deploys")
async def reload(site: Site, dice: Dice) -> None:
    """SIGHUP: the processes are replaced one by one."""
    if worker := await dice.victim(site):
        before = worker.children()
        with noted(site, "reload", "stop", who=worker.name, pids=before):
            worker.signal(signal.SIGHUP)
            await site.until(lambda: not set(before) & set(worker.children()) or not worker.lives, 20)


@fault("work")
async def kill_scheduler(site: Site, dice: Dice) -> None:
    if scheduler := await dice.victim(site, "scheduler"):
        with noted(site, "kill-scheduler", "kill", who=scheduler.name, pids=[scheduler.pid]):
            scheduler.signal(signal.SIGKILL)
            await asyncio.sleep(0.5)


@fault("work")
async def freeze_scheduler(site: Site, dice: Dice) -> None:
    if scheduler := await dice.victim(site, "scheduler"):
        await _freeze(site, "freeze-scheduler", scheduler, [scheduler.pid], dice.seconds(2, 8))


@fault("relay")
async def kill_relay(site: Site, dice: Dice) -> None:
    if dice.brief:
        return  # there is none
    if relay := await dice.victim(site, "relay"):
        with noted(site, "kill-relay", "kill", who=relay.name, pids=[relay.pid]):
            relay.signal(signal.SIGKILL)
            await asyncio.sleep(0.5)


@fault("relay")
async def freeze_relay(site: Site, dice: Dice) -> None:
    if dice.brief:
        return
    if relay := await dice.victim(site, "relay"):
        await _freeze(site, "freeze-relay", relay, [relay.pid], dice.seconds(2, 8))


async def _stop(site: Site, name: str, process: Process) -> None:
    if site.wanted.get(process.name) is process:
        del site.wanted[process.name]
    # One that starts has no handler yet, and a frozen one hears nothing.
    await site.until(lambda: (process.is_ready() and not process.frozen) or not process.lives, 20)
    process.stopping = True
    with noted(site, name, "stop", who=process.name, pids=[process.pid, *process.children()]) as stop:
        process.signal(signal.SIGTERM)
        stop.text = f"exit code {await site.ended(process)}"


# Redis ----------------------------------------------------------------------------------------------------------


@fault("redis")
async def redis_kill(site: Site, dice: Dice) -> None:
    with noted(site, "redis-kill", "redis"):
        await asyncio.to_thread(site.primary.kill)
        await asyncio.sleep(dice.seconds(0.3, 8))
        await asyncio.to_thread(site.primary.start)


@fault("redis")
async def redis_restart(site: Site, dice: Dice) -> None:
    with noted(site, "redis-restart", "redis"):
        await asyncio.to_thread(site.primary.stop)
        await asyncio.to_thread(site.primary.start)


@fault("redis")
async def redis_pause(site: Site, dice: Dice) -> None:
    """Longer than the silence that counts as a worker's death."""
    with noted(site, "redis-pause", "redis"):
        site.primary.pause()
        await asyncio.sleep(dice.seconds(6.5, 10))
        site.primary.resume()


@fault("redis")
async def redis_sleep(site: Site, dice: Dice) -> None:
    with noted(site, "redis-sleep", "redis"):
        await asyncio.to_thread(site.primary.command, "DEBUG", "SLEEP", f"{dice.seconds(1.5, 8):.1f}")


@fault("redis")
async def redis_loading(site: Site, dice: Dice) -> None:
    """Redis 7 and Valkey say so; 6.2 with little data is silent meanwhile."""
    server, seconds = site.primary, dice.seconds(2, 7)

    def load() -> None:
        keys = max(1, server.command("DBSIZE"))
        server.config("SET", "key-load-delay", int(seconds * 1_000_000 / keys))
        server.command("DEBUG", "RELOAD")
        server.config("SET", "key-load-delay", 0)

    with noted(site, "redis-loading", "redis"):
        await asyncio.to_thread(load)


@fault("redis")
async def redis_full(site: Site, dice: Dice) -> None:
    """Whatever asks for memory is refused."""
    with noted(site, "redis-full", "load"):
        await asyncio.to_thread(site.primary.config, "SET", "maxmemory", 1)
        await asyncio.sleep(dice.seconds(2, 8))
        await asyncio.to_thread(site.primary.config, "SET", "maxmemory", 0)


@fault("redis")
async def client_kill(site: Site, dice: Dice) -> None:
    with noted(site, "client-kill", "load"):
        until = time.monotonic() + dice.seconds(1.5, 15)
        while time.monotonic() < until:
            await asyncio.to_thread(site.primary.command, "CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(0.2)


@fault("redis")
async def script_flush(site: Site, dice: Dice) -> None:
    with noted(site, "script-flush", "load"):
        for _ in range(5):
            await asyncio.to_thread(site.primary.command, "SCRIPT", "FLUSH")
            await asyncio.sleep(dice.seconds(0.1, 0.5))


@fault("redis")
async def failover(site: Site, dice: Dice) -> None:
    """A replica that has everything takes over; the old primary refuses writes, then goes."""
    old, new = site.primary, site.new_server()
    await asyncio.to_thread(new.start)
    await asyncio.to_thread(new.command, "REPLICAOF", "127.0.0.1", old.port)
    if not await site.until(lambda: _in_step(old, new), SYNC_SECONDS):
        raise AssertionError("the replica does not follow")
    with noted(site, "failover", "redis"):
        await asyncio.to_thread(old.command, "CLIENT", "PAUSE", 20_000, "WRITE")
        if not await site.until(lambda: _in_step(old, new), SYNC_SECONDS):
            raise AssertionError("the replica does not follow")
        await asyncio.to_thread(new.command, "REPLICAOF", "NO", "ONE")
        await asyncio.to_thread(old.command, "REPLICAOF", "127.0.0.1", new.port)
        await asyncio.to_thread(old.command, "CLIENT", "UNPAUSE")
        for link in site.links.values():
            link.retarget(new.port)
        site.primary = new
        await asyncio.sleep(dice.seconds(0.5, 2))
        await asyncio.to_thread(old.stop)


def _in_step(old: Server, new: Server) -> bool:
    follows = new.info("replication")
    leads = old.info("replication")
    return follows.get("master_link_status") == "up" and follows["slave_repl_offset"] == leads["master_repl_offset"]


# The way to Redis -----------------------------------------------------------------------------------------------


@fault("links")
async def link_delay(site: Site, dice: Dice) -> None:
    where = _link(dice)
    with noted(site, "link-delay", "load", who=where):
        site.links[where].delay(dice.random.uniform(0.02, 0.15))
        await asyncio.sleep(dice.seconds(1.5, 12))
        site.links[where].heal()


@fault("links")
async def link_cut(site: Site, dice: Dice) -> None:
    where = _link(dice)
    with noted(site, "link-cut", "load", who=where):
        for _ in range(dice.random.randint(3, 12)):
            site.links[where].cut()
            await asyncio.sleep(0.1)


@fault("links")
async def link_swallow_replies(site: Site, dice: Dice) -> None:
    """Redis did what it was asked, and nobody hears of it."""
    where = _link(dice)
    with noted(site, "link-swallow-replies", "load", who=where):
        for _ in range(dice.random.randint(5, 20)):
            site.links[where].drop_next_reply(b"EVALSHA")
            await asyncio.sleep(0.1)
        site.links[where].heal()


@fault("links")
async def link_silent(site: Site, dice: Dice) -> None:
    await _silence(site, "link-silent", dice, dice.seconds(2.5, 9), requests=True, replies=True)


@fault("links")
async def link_silent_requests(site: Site, dice: Dice) -> None:
    await _silence(site, "link-silent-requests", dice, dice.seconds(2, 9), requests=True, replies=False)


@fault("links")
async def link_silent_replies(site: Site, dice: Dice) -> None:
    await _silence(site, "link-silent-replies", dice, dice.seconds(6.5, 9), requests=False, replies=True)


async def _silence(site: Site, name: str, dice: Dice, seconds: float, *, requests: bool, replies: bool) -> None:
    where = _link(dice)
    with noted(site, name, "link", who=where):
        site.links[where].blackhole(requests=requests, replies=replies)
        await asyncio.sleep(seconds)
        site.links[where].heal()


@fault("links")
async def link_strand(site: Site, dice: Dice) -> None:
    """Connections that exist are dead and do not know it; new ones work. Each is noticed by its own timeout."""
    where = _link(dice)
    with noted(site, "link-strand", "link", who=where):
        site.links[where].strand()
        await asyncio.sleep(dice.seconds(5, 8))


@fault("links")
async def link_refuse(site: Site, dice: Dice) -> None:
    where = _link(dice)
    with noted(site, "link-refuse", "link", who=where):
        site.links[where].refuse()
        site.links[where].cut()
        await asyncio.sleep(dice.seconds(1, 8))
        site.links[where].accept()


def _link(dice: Dice) -> str:
    return dice.random.choice(["near", "far"])


# More work ------------------------------------------------------------------------------------------------------


@fault("work")
async def backlog(site: Site, dice: Dice) -> None:
    await _send(site, "backlog", "grind", 100 if dice.brief else 1_000)


@fault("work")
async def deadly_jobs(site: Site, dice: Dice) -> None:
    """Jobs that kill the process that runs them."""
    await _send(site, "deadly-jobs", "deadly", 1)


async def _send(site: Site, name: str, kind: str, count: int) -> None:
    prefix = f"{name}-{site.started}"
    with noted(site, name, "work"):
        await site.ended(site.start(prefix, "producer", "at-once", KINDS[kind].name, str(count), prefix))


@fault("work")
async def replay(site: Site, dice: Dice) -> None:
    """What failed is repaired and replayed, by the command that operators use."""
    doomed = KINDS["doomed"]
    key = f"chaos:{{local:{doomed.service}}}:dead:{doomed.tier}"
    try:
        ids = await asyncio.to_thread(site.primary.command, "ZRANGE", key, 0, 19)
    except redis.RedisError:
        return  # Redis is away just now
    if ids:
        with noted(site, "replay", "work", text=" ".join(ids)):
            for job_id in ids:
                (site.folder / "repaired" / job_id).touch()
                site.book.write("replay", id=job_id)
            rate = ["--rate", "20"] if dice.random.random() < 0.5 else []
            await site.ended(site.start("replay", "command", "dead", "replay", *rate, *ids))
