"""What a run must not show. Each rule is a pure function from the evidence to its findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from fourlane.job import enqueued_at_ms
from tests.chaos.evidence import Evidence, Run
from tests.chaos.ledger import Line
from tests.chaos.remains import Left
from tests.chaos.site import GRACE_SECONDS, WORKERS, Fault
from tests.chaos.workload import BURST, CONCURRENCY, KINDS, RATE, TICKS

__all__ = ["RULES", "Finding", "check"]

SILENCE_SECONDS = 4.0
"""A lease may be lost to a silence of 5 s since the last beat, which may be 1.5 s old when the silence begins."""
NEWS_SECONDS = 6.0
"""After a silence a worker hears so late that it has lost its leases: a call that hangs is given up after 5 s."""
BEAT_SECONDS = 2.0
SETTLE_SECONDS = 1.5
"""A process may be killed between a job's end and its settling, which is no longer than this where Redis answers."""
AWAY = {"redis": 7.0, "link": 7.0, "load": 4.0}
"""After such faults a process may need so long: 5 s until a call is given up, 2 s until the next try."""
RECOVERY_SECONDS = 8.0
"""After a fault everybody has a silence, and some time to connect."""
PROBE_SECONDS = 1.5
"""99 of 100 jobs of the highest tier start so soon when nothing disturbs, on a busy machine of two cores."""
FEWEST_PROBES = 8
STALL_SECONDS = 20.0
STORMS = frozenset({"kill", "freeze", "redis", "link", "load"})
DISTURBING = STORMS | {"stop"}
CANCEL_SECONDS = 10.0
LATE_SECONDS = 5.0
CRASH_LIMIT = 3
COUNTED_SHARE = 0.9
IDLE_SILENCE_MS, IDLE_LOOK_MS = 900_000, 300_000
"""A worker that holds nothing is gone after three looks, and then noticed with the next look of another."""


@dataclass(frozen=True)
class Finding:
    """A promise that did not hold, with what shows it."""

    rule: str
    text: str
    job: str = ""
    at: float = 0.0
    """When, to look for the faults that were near; 0 for none."""
    runs: list[Run] = field(default_factory=list)


Rule = Callable[[Evidence], Iterator[Finding]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


def check(evidence: Evidence) -> list[Finding]:
    """All findings, by rule."""
    return [finding for judge in RULES for finding in judge(evidence)]


# What faults explain --------------------------------------------------------------------------------------------


def _overlaps(fault: Fault, began: float, ended: float) -> bool:
    return fault.began <= ended and fault.ended >= began


def _any(e: Evidence, effects: frozenset[str], began: float, ended: float) -> bool:
    """Whether a fault with one of these effects lay in this time."""
    return any(f.effect in effects and _overlaps(f, began, ended) for f in e.faults)


def _calm(e: Evidence, began: float, ended: float, effects: frozenset[str] = DISTURBING) -> bool:
    """Nothing disturbed this time, nor shortly before. Starts and work are no disturbance."""
    return not _any(e, effects, began - RECOVERY_SECONDS, ended)


def _settled_by(e: Evidence, run: Run) -> float:
    """Until when a run that ended may not be settled yet: longer while Redis is away, and until all are back."""
    until = run.ended + SETTLE_SECONDS
    for fault in sorted(e.faults, key=lambda f: f.began):
        back = fault.ended + AWAY.get(fault.effect, 0.0)
        if fault.effect in AWAY and fault.ended >= run.began and fault.began <= until <= back:
            until = back
    return until


def _death(e: Evidence, run: Run) -> float:
    """When the process of a run died, its supervisor's death included; 0 when it did not."""
    times = e.deaths.get(run.pid, []) + e.deaths.get(run.parent, [])
    return min((at for at in times if at >= run.began - 0.1), default=0.0)


def _seen_deaths(e: Evidence, runs: list[Run]) -> int:
    """Deaths under way of a job that a living supervisor saw."""
    return sum(_ended_by_death(e, run) for run in runs if run.pid in e.supervised_deaths)


def _ended_by_death(e: Evidence, run: Run) -> bool:
    death = _death(e, run)
    return death > 0 and (not run.end or death - run.ended < SETTLE_SECONDS)


def _silent(e: Evidence, run: Run, until: float, since: float = inf) -> bool:
    """Whether its worker fell silent for long enough to lose its leases, before ``since``, while others did not."""
    return any(
        ended - began >= SILENCE_SECONDS and began <= since and ended >= run.began - NEWS_SECONDS and began <= until
        for began, ended in _silences(e, run.parent)
    )


def _silences(e: Evidence, supervisor: int) -> list[tuple[float, float]]:
    """When it could tell Redis nothing. What lies closer than a beat to the next is one silence."""
    worker = WORKERS.get(e.story.workers.get(supervisor, "").rstrip("'"))
    found: list[tuple[float, float]] = []
    for fault in sorted(e.faults, key=lambda f: f.began):
        frozen = fault.effect == "freeze" and supervisor in fault.pids
        cut_off = fault.effect == "link" and worker is not None and worker.link == fault.who
        if not frozen and not cut_off:
            continue
        if found and fault.began - found[-1][1] < BEAT_SECONDS:
            found[-1] = found[-1][0], max(found[-1][1], fault.ended)
        else:
            found.append((fault.began, fault.ended))
    return found


def explain(e: Evidence, before: Run, after: Run) -> str:
    """Why a job ran once more; empty when nothing that is allowed says why."""
    if before.end in ("fail", "given-back"):
        return before.end
    if any(before.began < at <= after.began for at in e.replays.get(before.id, [])):
        return "replayed"
    death = _death(e, before)
    if death and death <= after.began + 0.2:
        if not before.end:
            return "killed"
        if death <= _settled_by(e, before):
            return "killed before it was settled"
    for fault in e.faults:
        if fault.effect != "stop" or not {before.pid, before.parent} & set(fault.pids):
            continue
        over_grace = before.ended >= fault.began + GRACE_SECONDS - 0.5  # it may still end while its process goes
        if (not before.end or over_grace) and _overlaps(fault, before.began, after.began):
            return "given back at the end of the grace"
        away = any(f.effect in ("redis", "link") and _overlaps(f, fault.began - 1, fault.ended) for f in e.faults)
        if before.ended <= fault.ended <= after.began and away:
            return "stopped while Redis was away"
    # The one who lost the lease may also be the later: then it had the job before the other began.
    if _silent(e, before, after.began) or _silent(e, after, after.began, since=before.began):
        return "its worker was silent"
    return ""


# Jobs -------------------------------------------------------------------------------------------------------------


@rule
def lost(e: Evidence) -> Iterator[Finding]:
    """Accepted is kept."""
    for job_id, line in e.accepted.items():
        runs = e.runs.get(job_id, [])
        ended = any(run.end in ("end", "cancelled") for run in runs)
        cancel = e.cancels.get(job_id)
        if ended or (cancel is not None and cancel.text != "unknown"):
            continue
        if job_id not in e.remains.services[KINDS[line.kind].service].tasks:
            yield Finding("lost", f"{line.kind} was accepted and is nowhere", job_id, line.at, runs)


@rule
def stuck(e: Evidence) -> Iterator[Finding]:
    """Everything ends, but for what made at the last moment."""
    for service, left in e.remains.services.items():
        for job_id, task in left.tasks.items():
            fresh = task in {tick.name for tick in TICKS} and not e.runs.get(job_id)
            if job_id not in left.dead and not fresh:
                place = _place(left, job_id)
                line = e.accepted.get(job_id)
                at = line.at if line else 0.0
                yield Finding("stuck", f"{task} of {service} is still {place}", job_id, at, e.runs.get(job_id, []))


def _place(left: Left, job_id: str) -> str:
    for name, entries in left.leased.items():
        if job_id in entries:
            return f"leased by {name}"
    return "delayed" if job_id in left.delayed else "ready" if job_id in left.ready else "in no place at all"


@rule
def rows(e: Evidence) -> Iterator[Finding]:
    """A row of the outbox that was committed becomes a job."""
    for job_id, line in e.accepted.items():
        if KINDS[line.kind].outbox and (state := e.remains.rows.get(job_id, "gone")) != "relayed":
            yield Finding("row", f"its row in the outbox is {state}", job_id, line.at, e.runs.get(job_id, []))


@rule
def ran_twice(e: Evidence) -> Iterator[Finding]:
    """Once, but for what failed, was killed, given back, replayed, or lost to a silence."""
    for job_id, runs in e.runs.items():
        for before, after in pairwise(runs):
            if not explain(e, before, after):
                at_once = not before.end or before.ended > after.began
                how = "twice at once" if at_once else f"again {after.began - before.ended:.2f} s after its end"
                yield Finding("ran-twice", f"{before.kind} ran {how}", job_id, after.began, [before, after])


@rule
def sent_twice(e: Evidence) -> Iterator[Finding]:
    """One send is one job, whatever became of its answer."""
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for job_id, runs in e.runs.items():
        if runs[0].n:
            ids[runs[0].n].add(job_id)
    for n, found in ids.items():
        if len(found) > 1:
            yield Finding("sent-twice", f"one send of {n} made {', '.join(sorted(found))}", min(found))
        if n not in e.meant:
            yield Finding("sent-twice", f"nobody sent {n}", min(found))


@rule
def attempts(e: Evidence) -> Iterator[Finding]:
    """One for each failure, and for nothing else."""
    for job_id, runs in e.runs.items():
        for place, run in enumerate(runs):
            since = max((at for at in e.replays.get(job_id, []) if at <= run.began), default=0.0)
            failed = [r for r in runs[:place] if r.end == "fail" and r.began > since]
            if run.attempt > 1 + len(failed):
                text = f"attempt {run.attempt} after {len(failed)} failure(s)"
                yield Finding("attempts", text, job_id, run.began, runs[: place + 1])
            sure = [r for r in failed if not explain_unsettled(e, r, run)]
            if run.attempt < 1 + len(sure):
                text = f"attempt {run.attempt} though {len(sure)} failed before"
                yield Finding("attempts", text, job_id, run.began, runs[: place + 1])


def explain_unsettled(e: Evidence, failed: Run, later: Run) -> bool:
    """Whether a failure may not have been counted: its process died, or its lease was lost, before it was told."""
    death = _death(e, failed)
    return 0 < death <= _settled_by(e, failed) or _silent(e, failed, later.began)


@rule
def crashes(e: Evidence) -> Iterator[Finding]:
    """Counted for deaths that a supervisor saw, and for nothing else."""
    counted = dict(e.story.crashes)
    for left in e.remains.services.values():
        for job_id, number in left.crashes.items():
            counted[job_id] = max(number, counted.get(job_id, 0))
    for job_id, number in counted.items():
        runs = e.runs.get(job_id, [])
        seen = _seen_deaths(e, runs)
        if number > seen:
            at = runs[-1].began if runs else 0.0
            yield Finding("crashes", f"{number} counted, {seen} seen by a supervisor", job_id, at, runs)


@rule
def dead_letters(e: Evidence) -> Iterator[Finding]:
    """Only those that have earned it, and with all their attempts."""
    for left in e.remains.services.values():
        for job_id, words in left.dead.items():
            reason, task, runs = words.partition("\n")[0], left.tasks.get(job_id, ""), e.runs.get(job_id, [])
            at = runs[-1].began if runs else 0.0
            kind = KINDS.get(task)
            if reason == "poison" and (seen := _seen_deaths(e, runs)) < CRASH_LIMIT:
                yield Finding("false-poison", f"{task} is poison after {seen} death(s)", job_id, at, runs)
            elif reason != "poison" and (kind is None or kind.reason != reason):
                yield Finding("false-dead-letter", f"{task} is dead: {words!r}", job_id, at, runs)
            elif kind is not None and reason == "error" and left.attempts.get(job_id) != kind.fails:
                text = f"{task} is dead after {left.attempts.get(job_id)} attempt(s), not {kind.fails}"
                yield Finding("attempts", text, job_id, at, runs)
    for job_id, runs in e.runs.items():
        died = [run for run in runs if run.kills]
        unseen = len(died) - CRASH_LIMIT
        if unseen > 0 and not any(_any(e, DISTURBING, r.began, r.began + 10) for r in died):
            yield Finding("crashes", f"poison ran {len(died)} times", job_id, died[-1].began, runs)


# Waits ------------------------------------------------------------------------------------------------------------


@rule
def tiers(e: Evidence) -> Iterator[Finding]:
    """The highest tier does not wait for the backlog of another service."""
    waits: list[tuple[float, str]] = []
    for job_id, line in e.accepted.items():
        if line.kind != "probe" or line.at < e.story.began or not _calm(e, line.at, line.at):
            continue
        first = e.runs[job_id][0].began if job_id in e.runs else e.story.stopping
        disturbed = min((f.began for f in e.faults if f.effect in DISTURBING and f.began > line.at), default=inf)
        wait = max(0.0, min(first, disturbed) - line.at)
        if first <= disturbed or wait > PROBE_SECONDS:
            waits.append((wait, job_id))
    if len(waits) >= FEWEST_PROBES:
        wait, job_id = sorted(waits)[int(len(waits) * 0.99)]
        if wait > PROBE_SECONDS:
            text = f"P0 waited {wait:.2f} s (99th percentile of {len(waits)}), undisturbed"
            yield Finding("order", text, job_id, e.accepted[job_id].at, e.runs.get(job_id, []))


@rule
def stalls(e: Evidence) -> Iterator[Finding]:
    """Whatever may run runs soon once nothing disturbs any more."""
    for job_id, line in e.accepted.items():
        runs = e.runs.get(job_id, [])
        if KINDS[line.kind].limited or not runs:
            continue
        began = runs[0].began
        free = max([line.due or line.at, *(f.ended for f in e.faults if f.ended <= began)])
        if began - free > STALL_SECONDS:
            text = f"{line.kind} began {began - free:.1f} s after it might, and the last fault was over"
            yield Finding("stalled", text, job_id, began, runs)


@rule
def limits(e: Evidence) -> Iterator[Finding]:
    """No more at once, no more in a second, but for those of workers that lost their leases."""
    runs = [run for found in e.runs.values() for run in found]
    moments: list[tuple[float, int, Run]] = []
    for run in (r for r in runs if r.kind == "narrow"):
        end = run.ended or _death(e, run) or e.story.stopping
        if not _silent(e, run, end):
            moments += [(run.began, 1, run), (end, -1, run)]
    running = 0
    for at, step, run in sorted(moments, key=lambda moment: moment[:2]):
        running += step
        if running > CONCURRENCY and step > 0:
            yield Finding("limits", f"{running} run at once under a limit of {CONCURRENCY}", run.id, at, [run])
            break
    starts = sorted(run.began for run in runs if run.kind == "measured")
    most = RATE + BURST + BURST
    for first, at in zip(starts, starts[most:], strict=False):
        if at - first < 1.0 and _calm(e, first, at):
            text = f"more than {most} starts within a second under a rate of {RATE}"
            yield Finding("limits", text, at=at)
            break


@rule
def cancels(e: Evidence) -> Iterator[Finding]:
    """A cancelled job does not begin any more, or is told."""
    for job_id, line in e.cancels.items():
        runs = e.runs.get(job_id, [])
        late = [r for r in runs if r.end == "end" and r.ended - r.began > CANCEL_SECONDS and r.ended > line.at]
        if line.text == "running" and late:
            yield Finding("cancel", f"{line.kind} was cancelled and ran to its end", job_id, line.at, late)
        begun = [run for run in runs if run.began > line.at + 0.5]
        if line.text in ("ready", "delayed", "running") and begun:
            yield Finding("cancel", f"{line.kind} was cancelled ({line.text}) and began", job_id, line.at, begun)


@rule
def results(e: Evidence) -> Iterator[Finding]:
    """Who waits for a result gets it, and no other."""
    for line in e.results:
        runs = e.runs.get(line.id, [])
        if line.what == "result" and line.text != line.n:
            yield Finding("result", f"{line.kind} gave {line.text!r}, not {line.n!r}", line.id, line.at, runs)
        if line.what == "no-result":
            ended = [run.ended for run in runs if run.end == "end"]
            if ended and _calm(e, min(ended), line.at) and line.at - min(ended) > RECOVERY_SECONDS:
                text = f"{line.kind} ended, and who waited never heard of it"
                yield Finding("result", text, line.id, line.at, runs)


# Schedules --------------------------------------------------------------------------------------------------------


@rule
def schedules(e: Evidence) -> Iterator[Finding]:
    """Each nominal time once, none missing, none late when nothing disturbs."""
    firsts = sorted((runs[0] for runs in e.runs.values() if runs[0].text), key=lambda run: run.began)
    for tick in TICKS:
        found: defaultdict[int, set[str]] = defaultdict(set)
        late = None
        for run in firsts:
            name, _, nominal = run.text.partition("@")
            if name == tick.name:
                found[int(nominal)].add(run.id)
                lateness = ((enqueued_at_ms(run.id) or 0) - int(nominal)) / 1000
                if lateness > LATE_SECONDS and _calm(e, run.began - LATE_SECONDS, run.began):
                    late = late or (run, lateness)
        for moment, ids in found.items():
            if len(ids) > 1:
                text = f"{tick.name} fired {len(ids)} times for {moment}: {', '.join(sorted(ids))}"
                yield Finding("schedule", text, min(ids), e.runs[min(ids)][0].began)
        if late:
            text = f"{tick.name} came {late[1]:.1f} s late, undisturbed"
            yield Finding("schedule", text, late[0].id, late[0].began, [late[0]])
        yield from _missing(e, tick.name, tick.seconds * 1000, sorted(found), tick.complete)


def _missing(e: Evidence, name: str, every_ms: int, nominals: list[int], complete: bool) -> Iterator[Finding]:
    clocks = e.story.stopping_wall - e.story.stopping
    end_ms = int(e.story.stopping_wall * 1000) - int(LATE_SECONDS * 1000)
    last = nominals[-1] if nominals else int((e.story.began + clocks) * 1000)
    if last < end_ms - every_ms and _calm(e, (last / 1000) - clocks + LATE_SECONDS, e.story.stopping - 0.1):
        yield Finding("schedule", f"{name} fired no more for {(end_ms - last) / 1000:.1f} s before the stop")
    absent = sorted(set(range(nominals[0], last, every_ms)) - set(nominals)) if nominals and complete else []
    if absent:
        at = absent[0] / 1000 - clocks
        yield Finding("schedule", f"{name} has no job for {len(absent)} time(s), first {absent[0]}", at=at)


# What is left -------------------------------------------------------------------------------------------------------


@rule
def leaks(e: Evidence) -> Iterator[Finding]:
    """No key without an owner, no member that nobody removes."""
    for text in e.remains.doctor:
        yield Finding("leak", f"the doctor: {text}")
    for key in e.remains.lasting:
        yield Finding("leak", f"{key} does not expire")
    for service, left in e.remains.services.items():
        for name, entries in left.leased.items():
            yield Finding("leak", f"{service}: {len(entries)} job(s) leased by {name}, which is gone")
        for worker, until_ms in left.workers.items():
            if not e.remains.now_ms - IDLE_LOOK_MS < until_ms < e.remains.now_ms + IDLE_SILENCE_MS:
                over = (e.remains.now_ms - until_ms) / 1000
                yield Finding("leak", f"{service}: {worker} in workers, {over:.0f} s over")
        if left.slots:
            yield Finding("leak", f"{service}: {len(left.slots)} slot(s) of a limit taken", left.slots[0])
        if left.cancels:
            text = f"{service}: {len(left.cancels)} mark(s) of cancelled jobs that run no more"
            yield Finding("leak", text, left.cancels[0], runs=e.runs.get(left.cancels[0], []))
        if apart := sorted(set(left.apart) - left.tasks.keys()):
            yield Finding("leak", f"{service}: records of {len(apart)} job(s) that are gone", apart[0])


@rule
def counters(e: Evidence) -> Iterator[Finding]:
    """A process that was stopped, not killed, has counted what it did."""
    ended = {r.id for rs in e.runs.values() for r in rs if r.end == "end" and not _death(e, r)}
    counted = sum(left.done for left in e.remains.services.values())
    if counted < len(ended) * COUNTED_SHARE:
        yield Finding("counters", f"{counted} counted as done, {len(ended)} were")


# Processes ----------------------------------------------------------------------------------------------------------


@rule
def processes(e: Evidence) -> Iterator[Finding]:
    """They end when they are told to, well, and never by themselves."""
    killed = {pid for f in e.faults if f.effect == "kill" for pid in f.pids}
    killed |= {run.pid for runs in e.runs.values() for run in runs if run.kills}
    for died in e.died:
        stopped = any(f.effect == "stop" and died.pid in f.pids for f in e.faults)
        if died.pid not in killed and not (stopped and not _calm(e, died.at - GRACE_SECONDS - 10, died.at, STORMS)):
            yield Finding("process", f"worker process {died.pid} died by itself: {died.how}", at=died.at)
    for text in e.story.vanished:
        yield Finding("process", f"{text} ended by itself")
    for name, code in e.story.exits.items():
        if code:
            yield Finding("process", f"{name} was stopped and ended with exit code {code}", at=e.story.stopping)
    for fault in e.faults:
        well = fault.text in ("", "exit code 0")
        if fault.effect == "stop" and not well and _calm(e, fault.began, fault.ended, STORMS):
            yield Finding("process", f"{fault.who} was stopped and ended with {fault.text}", at=fault.ended)
    for text in e.tracebacks:
        yield Finding("process", f"a traceback in {text}")


@rule
def producers(e: Evidence) -> Iterator[Finding]:
    """Nothing is refused while nothing disturbs, and what is refused has the name that is documented."""
    unnamed = [line for line in e.refused if not line.text.startswith(("RedisUnavailable: ", "BrokerUnavailable: "))]
    if unnamed:
        yield Finding("unnamed-error", f"{len(unnamed)} call(s) failed so: {unnamed[0].text}", at=unnamed[0].at)
    refused = [line for line in e.refused if _calm(e, line.at - RECOVERY_SECONDS, line.at)]
    if refused:
        first: Line = refused[0]
        yield Finding("refused", f"{len(refused)} send(s) refused, undisturbed: {first.text}", at=first.at)
