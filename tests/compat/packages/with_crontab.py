"""dramatiq-crontab: its scheduler, in a process of its own, sends plain and async actors, in Sentry's monitors."""

import os
import subprocess
import sys

import dramatiq
import seen
from django.conf import settings
from dramatiq.middleware import AsyncIO

import fourlane

if not settings.configured:
    settings.configure(USE_TZ=True, TIME_ZONE="UTC", INSTALLED_APPS=["dramatiq_crontab"])
    import django

    django.setup()

broker = fourlane.RedisBroker(url=seen.URL)
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)

from dramatiq_crontab import interval  # noqa: E402 - it declares an actor


@interval(seconds=1)
@dramatiq.actor
def ticks() -> None:
    seen.note("ticks")


@interval(seconds=1)
@dramatiq.actor
async def async_ticks() -> None:
    seen.note("async ticks")


if __name__ == "__main__" and "schedule" in sys.argv:
    from django.core.management import call_command

    call_command("crontab", "--no-task-loading", "--no-heartbeat")
elif __name__ == "__main__":
    scheduler = subprocess.Popen(
        [sys.executable, "with_crontab.py", "schedule"], stdout=subprocess.DEVNULL, env=os.environ
    )
    try:
        with seen.running("with_crontab"):
            seen.check("an actor at its interval", lambda: seen.notes().count("ticks") >= 3)
            seen.check("an async actor at its interval", lambda: seen.notes().count("async ticks") >= 3)
    finally:
        scheduler.terminate()
        scheduler.wait()
