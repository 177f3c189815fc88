"""APScheduler: a scheduler in the program sends actors and tasks."""

import dramatiq
import seen
from apscheduler.schedulers.background import BackgroundScheduler

import fourlane

dramatiq.set_broker(fourlane.RedisBroker(url=seen.URL))


@dramatiq.actor
def ticks() -> None:
    seen.note("ticks")


if __name__ == "__main__":
    scheduler = BackgroundScheduler()
    scheduler.add_job(ticks.send, "interval", seconds=0.5)
    scheduler.start()
    with seen.running("with_apscheduler"):
        seen.check("an actor at its interval", lambda: seen.notes().count("ticks") >= 3)
        scheduler.shutdown()
