"""periodiq: its scheduler, in a process of its own, sends each minute."""

import subprocess

import dramatiq
import seen
from periodiq import PeriodiqMiddleware, cron

import fourlane

broker = fourlane.RedisBroker(url=seen.URL)
broker.add_middleware(PeriodiqMiddleware(skip_delay=30))
dramatiq.set_broker(broker)


@dramatiq.actor(periodic=cron("* * * * *"))
def each_minute() -> None:
    seen.note("minute")


if __name__ == "__main__":
    scheduler = subprocess.Popen([seen.BIN / "periodiq", "with_periodiq"], stderr=subprocess.DEVNULL)
    try:
        with seen.running("with_periodiq"):
            seen.check("a job at the minute", lambda: seen.notes() == ["minute"], 70)
    finally:
        scheduler.terminate()
        scheduler.wait()
