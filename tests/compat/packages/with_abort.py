"""dramatiq-abort: jobs that wait, run in a thread and run on the event loop are aborted."""

import asyncio
import time

import dramatiq
import seen
from dramatiq.middleware import AsyncIO
from dramatiq_abort import Abort, Abortable, abort
from dramatiq_abort.backends import RedisBackend

import fourlane

broker = fourlane.RedisBroker(url=seen.URL)
broker.add_middleware(AsyncIO())
broker.add_middleware(Abortable(backend=RedisBackend.from_url(seen.URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=0)
def sleeps(name: str) -> None:
    seen.note(f"{name} began")
    try:
        for _ in range(200):
            time.sleep(0.05)
    except Abort:
        seen.note(f"{name} aborted")
        raise


@dramatiq.actor(max_retries=0)
async def awaits(name: str) -> None:
    seen.note(f"{name} began")
    try:
        await asyncio.sleep(10)
    except (Abort, asyncio.CancelledError):
        seen.note(f"{name} aborted")
        raise


if __name__ == "__main__":
    with seen.running("with_abort"):
        waiting = sleeps.send_with_options(args=("waiting",), delay=2_000)
        abort(waiting.message_id)
        for actor, name in ((sleeps, "thread"), (awaits, "async")):
            message = actor.send(name)
            seen.check(f"{name}: begins", lambda name=name: f"{name} began" in seen.notes())
            abort(message.message_id)
            seen.check(f"{name}: a running job is aborted", lambda name=name: f"{name} aborted" in seen.notes(), 5)
        seen.check("all are over", lambda: not broker.join("default", timeout=500))
        seen.check("a waiting job is aborted", lambda: "waiting began" not in seen.notes())
