"""A run, from an empty folder to what is to be checked."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import redis

from tests.chaos import remains
from tests.chaos.faults import CATALOGUE, Dice, Kind, order, roll_out
from tests.chaos.site import RELAY, SCHEDULER, WORKERS, Fault, Process, Site

__all__ = ["Plan", "Story", "brief", "run"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is asked to do."""

    seed: int
    seconds: float
    faults: list[str]
    brief: bool = False
    """Each fault as short as it can be and still matter, all kinds at once: the cut of the suite."""
    binary: str | None = None
    rate: float = 40.0
    """Jobs a second of all producers together."""
    backlog: int = 1_200
    """Jobs of 100 ms with which producers begin."""
    drain_seconds: float = 120.0

    @property
    def kinds(self) -> list[Kind]:
        return [CATALOGUE[name] for name in self.faults]


def brief(seed: int, faults: list[str], *, binary: str | None = None) -> Plan:
    """The cut of the suite: three quarters of a minute."""
    return Plan(seed=seed, seconds=30, faults=faults, brief=True, binary=binary, rate=20, backlog=400, drain_seconds=60)


class Story(msgspec.Struct, kw_only=True):
    """What the runner knows of the run, beside the faults and the ledger."""

    plan: Plan
    began: float = 0.0
    """The workers are ready."""
    stormed: float = 0.0
    """The faults begin."""
    calmed: float = 0.0
    """They are over."""
    drained: float = 0.0
    """Everything is done; 0 when that did not come."""
    stopping: float = 0.0
    stopping_wall: float = 0.0
    exits: dict[str, int] = {}
    """How those ended that were told to at the end."""
    vanished: list[str] = []
    """Those that ended though nobody asked them to."""
    workers: dict[int, str] = {}
    """The names of workers by the process ids of their supervisors."""
    crashes: dict[str, int] = {}
    """The most crashes that were ever counted for a job."""


def run(plan: Plan, folder: Path) -> None:
    """Run it; the folder then holds ledger, logs, faults, remains and the story."""
    folder.mkdir(parents=True)
    asyncio.run(_run(plan, Site(folder, binary=plan.binary, brief=plan.brief)))


async def _run(plan: Plan, site: Site) -> None:
    story = Story(plan=plan)
    site.open()
    try:
        watching = asyncio.create_task(_watch_crashes(site, story))
        keeping = asyncio.create_task(site.keep())
        producers = await _begin(site, story)
        await _calm(site, story)
        story.stormed = time.monotonic()
        await _storm(plan, site)
        story.calmed = time.monotonic()
        await _drain(site, story, producers)
        for task in (watching, keeping):
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()  # it failed before
        await _stop(site, story)
        left = remains.read(site.primary, "" if plan.brief else site.database_url)
        (site.folder / "remains.json").write_bytes(msgspec.json.encode(left))
    finally:
        site.close()
        story.vanished = site.vanished
        story.workers = {p.pid: p.name for p in site.processes if p.role == "worker"}
        (site.folder / "story.json").write_bytes(msgspec.json.encode(story))


async def _begin(site: Site, story: Story) -> list[Process]:
    plan = story.plan
    names = (*WORKERS, SCHEDULER, *(() if plan.brief else (RELAY,)))
    for name in names:
        site.want(name, site.version)
    for name in names:
        if not await site.ready(name):
            raise AssertionError(f"{name} does not start:\n{site.wanted[name].log.read_text()[-2000:]}")
    story.began = time.monotonic()
    number = 1 if plan.brief else 2
    words = (str(plan.rate / number), str(plan.backlog // number))
    return [site.start(f"producer{i}", "producer", f"p{i}", f"{plan.seed}:{i}", *words) for i in range(number)]


async def _calm(site: Site, story: Story) -> None:
    """Producers began with work for some seconds, and nothing disturbs it: the time in which waits are measured."""
    await asyncio.sleep(4 if story.plan.brief else 15)


# The storm ------------------------------------------------------------------------------------------------------


async def _storm(plan: Plan, site: Site) -> None:
    if not plan.kinds:
        await asyncio.sleep(plan.seconds)
        return
    ends = time.monotonic() + plan.seconds
    if not plan.brief:
        await _alone(plan, site, time.monotonic() + plan.seconds / 3)
    tracks = {kind.track for kind in plan.kinds}
    await asyncio.gather(*(_track(plan, site, track, ends) for track in sorted(tracks)))


async def _alone(plan: Plan, site: Site, ends: float) -> None:
    """One fault after the other."""
    for turn, (kind, dice) in enumerate(order(plan.kinds, f"{plan.seed}:alone")):
        if time.monotonic() >= ends or turn >= len(plan.kinds):
            return
        await kind.run(site, Dice(dice, plan.brief))
        await asyncio.sleep(2.0)


async def _track(plan: Plan, site: Site, track: str, ends: float) -> None:
    """The faults of a track, beside those of the others. A brief track ends with its first round."""
    kinds = [kind for kind in plan.kinds if kind.track == track]
    pauses = random.Random(f"{plan.seed}:{track}:pauses")
    for turn, (kind, dice) in enumerate(order(kinds, f"{plan.seed}:{track}")):
        await asyncio.sleep(0.3 if plan.brief else pauses.uniform(0.5, 5))
        if time.monotonic() >= ends or (plan.brief and turn >= len(kinds)):
            return
        await kind.run(site, Dice(dice, plan.brief))


# The end --------------------------------------------------------------------------------------------------------


async def _drain(site: Site, story: Story, producers: Sequence[Process]) -> None:
    """Finish the deploy, and wait for everything that was sent."""
    plan = story.plan
    (site.folder / "enough").touch()
    await roll_out(site, "all")
    for producer in producers:
        await site.ended(producer)
    quiet_until = time.monotonic() + (3 if plan.brief else 20)
    ends = time.monotonic() + plan.drain_seconds
    while time.monotonic() < ends:
        left = await asyncio.to_thread(remains.unfinished, site.primary)
        left += 0 if plan.brief else len(remains.unsent(site.database_url))
        if left == 0 and story.drained == 0.0:
            story.drained = time.monotonic()
        if story.drained and time.monotonic() >= quiet_until:
            return
        await asyncio.sleep(0.3)


async def _stop(site: Site, story: Story) -> None:
    story.stopping, story.stopping_wall = time.monotonic(), time.time()
    last = list(site.wanted.values())
    for process in last:
        site.note(
            Fault(
                name="stop",
                effect="stop",
                began=story.stopping,
                ended=story.stopping + 60,
                who=process.name,
                pids=[process.pid, *process.children()],
            )
        )
        process.signal(signal.SIGTERM)
    for process in last:
        story.exits[f"{process.name} ({process.log.name})"] = await site.ended(process)


async def _watch_crashes(site: Site, story: Story) -> None:
    """Once a second: what is counted for jobs that end well is gone with them."""
    while True:
        try:
            for job_id, number in (await asyncio.to_thread(remains.crashes, site.primary)).items():
                story.crashes[job_id] = max(number, story.crashes.get(job_id, 0))
        except redis.RedisError:
            pass  # away for the moment
        await asyncio.sleep(1.0)
