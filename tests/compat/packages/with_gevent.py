"""dramatiq-gevent: a stop settles what ran; the jobs of a killed worker are back in seconds."""

import os
import signal
import time

import dramatiq
import seen

import fourlane
from fourlane.queues import browse

broker = fourlane.RedisBroker(url=seen.URL)
dramatiq.set_broker(broker)


@dramatiq.actor
def naps(number: int) -> None:
    seen.note(f"nap {number}")
    time.sleep(0.3)
    seen.note(f"woke {number}")


@dramatiq.actor
def sleeps() -> None:
    seen.note(f"sleeps {os.getpid()}")
    time.sleep(2)
    seen.note("slept")


def count(word: str) -> int:
    return len([note for note in seen.notes() if note.startswith(word)])


def unfinished() -> int:
    return int(browse.unfinished(broker.store, "default"))


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


if __name__ == "__main__":
    worker = seen.start("with_gevent")
    for number in range(40):
        naps.send(number)
    seen.check("40 jobs run", lambda: count("woke") == 40)
    seen.check("they are settled at once", lambda: not unfinished(), 1)
    sleeps.send()
    seen.check("a long job begins", lambda: count("sleeps") == 1)
    worker.send_signal(signal.SIGTERM)
    seen.check("it stops within 8 s", lambda: worker.poll() is not None, 8)
    seen.check("what ran is settled", lambda: (count("slept"), unfinished()) == (1, 0), 0.5)

    killed = seen.start("with_gevent")
    sleeps.send()
    seen.check("another long job begins", lambda: count("sleeps") == 2)
    for pid in [*children(killed.pid), killed.pid]:
        os.kill(pid, signal.SIGKILL)
    killed.wait()
    at = time.monotonic()
    with seen.running("with_gevent"):
        seen.check("a killed one's job is back within 12 s", lambda: count("sleeps") == 3, 12)
        print(f"   (after {time.monotonic() - at:.1f} s)")
        seen.check("and ends", lambda: (count("slept"), unfinished()) == (2, 0))
        seen.check("each ran as often as it had to", lambda: (count("nap"), count("sleeps")) == (40, 3))
