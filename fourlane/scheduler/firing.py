"""What is asked of Redis for a schedule: a request for each nominal time, on the state that the one before leaves.

Redis decides (lua/schedule_fire.lua): a request whose state is not the schedule's any more changes nothing.
"""

from __future__ import annotations

import msgspec

from fourlane.queues import schedules
from fourlane.queues.schedules import Fire, Schedule, State
from fourlane.scheduler.jobs import job_of
from fourlane.scheduler.plan import Missed, Nominal, due_ms, next_look_ms, plan

__all__ = ["left_by", "put_off", "requests"]


def requests(schedule: Schedule, state: State, text: bytes, now_ms: int, until_ms: int) -> list[Fire]:
    """What is due before ``until_ms``; nothing when the schedule's last time is long over.

    Parameters:
      text: the state as Redis has it.
    """
    if state.paused:
        return [put_off(schedule, text, 0)]  # the end of a job made it due
    fires: list[Fire] = []
    if state.queued_ms:
        fires.append(_of_queued(schedule, state, text, now_ms))
    for step in plan(schedule, state, now_ms, until_ms - now_ms):
        if isinstance(step, Missed):
            state = msgspec.structs.replace(state, last_ms=step.last_ms, next_ms=step.next_ms)
            fire = _request(schedule, text, state, now_ms, f"m {step.first_ms} {step.last_ms}")
        else:
            fire, state = _of_nominal(schedule, state, text, step, now_ms)
        fires.append(fire)
        text = fire.new_state
        if isinstance(step, Nominal) and step.checks and schedule.overlap != "allow":
            break  # whether it fires is not known yet, nor what comes after it
    if not fires and (state.next_ms or schedule.module):
        return [put_off(schedule, text, max(next_look_ms(schedule, state, now_ms), now_ms + 1_000))]
    return fires


def put_off(schedule: Schedule, text: bytes, due: int) -> Fire:
    """Nothing to do until then."""
    return Fire(schedule.name, text, 0, "", b"", "", text, due, "")


def left_by(fire: Fire, word: str) -> tuple[bytes, int]:
    """The state that a decision left, and when it is due again; an empty one when nothing was decided."""
    if word == "fired":
        return fire.new_state, fire.due_ms
    if word == "alive":
        return fire.alive_state, fire.alive_due_ms
    return b"", 0


def _request(schedule: Schedule, text: bytes, new: State, now_ms: int, line: str) -> Fire:
    """One that makes no job."""
    return Fire(
        schedule.name, text, 0, "", b"", "", schedules.encode(new), next_look_ms(schedule, new, now_ms), line
    )  # fmt: skip


def _of_nominal(schedule: Schedule, state: State, text: bytes, step: Nominal, now_ms: int) -> tuple[Fire, State]:
    """A nominal time as a request, and the state that it leaves when it fires."""
    passed = msgspec.structs.replace(state, last_ms=step.nominal_ms, next_ms=step.next_ms)
    entry, body = job_of(schedule, step.nominal_ms, max(now_ms, step.due_ms))
    fired = _after_job(schedule, passed, entry)
    former = state.job if step.checks and schedule.overlap != "allow" else ""
    moment = f"{step.nominal_ms} {step.due_ms}"
    fire = _request(schedule, text, fired, now_ms, f"f {moment}")._replace(
        not_before_ms=step.due_ms, entry=entry, body=body, former=former
    )
    if not former or schedule.overlap == "replace":
        return fire, fired
    if schedule.overlap == "queue" and not state.queued_ms:
        held, word = msgspec.structs.replace(passed, queued_ms=step.nominal_ms), "q"
    else:
        held, word = msgspec.structs.replace(passed, skipped=state.skipped + 1), "s"
    fire = fire._replace(
        alive_state=schedules.encode(held),
        alive_due_ms=next_look_ms(schedule, held, now_ms),
        alive_line=f"{word} {moment}",
    )
    if state.queued_ms:
        # The one that waits goes first; this one waits in its place.
        entry, body = job_of(schedule, state.queued_ms, max(now_ms, step.due_ms))
        fired = _after_job(schedule, msgspec.structs.replace(passed, queued_ms=step.nominal_ms), entry)
        line = f"f {state.queued_ms} {due_ms(schedule, state.queued_ms)}"
        fire = fire._replace(entry=entry, body=body, new_state=schedules.encode(fired), line=line)
    return fire, fired


def _of_queued(schedule: Schedule, state: State, text: bytes, now_ms: int) -> Fire:
    """The run that waits for the end of the one before."""
    entry, body = job_of(schedule, state.queued_ms, now_ms)
    fired = _after_job(schedule, msgspec.structs.replace(state, queued_ms=0), entry)
    line = f"f {state.queued_ms} {due_ms(schedule, state.queued_ms)}"
    return _request(schedule, text, fired, now_ms, line)._replace(
        entry=entry,
        body=body,
        former=state.job,
        alive_state=text,
        alive_due_ms=next_look_ms(schedule, state, now_ms),
    )


def _after_job(schedule: Schedule, state: State, job_id: str) -> State:
    runs = state.runs + 1
    state = msgspec.structs.replace(state, runs=runs, job=job_id)
    if schedule.max_runs and runs >= schedule.max_runs:
        return msgspec.structs.replace(state, next_ms=0, queued_ms=0)
    return state
