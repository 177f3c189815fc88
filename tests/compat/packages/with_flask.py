"""flask-dramatiq: actors run in their application's context."""

import asyncio

import seen
from dramatiq.middleware import AsyncIO, default_middleware
from flask import Flask, current_app
from flask_dramatiq import Dramatiq

jobs = Dramatiq(middleware=[*[kind() for kind in default_middleware if kind.__name__ != "Prometheus"], AsyncIO()])


@jobs.actor
def works() -> None:
    seen.note(f"works in {current_app.name}")


@jobs.actor
async def awaits() -> None:
    await asyncio.sleep(0.1)
    seen.note(f"awaits in {current_app.name}")


app = Flask("shop")
app.config |= {"DRAMATIQ_BROKER": "fourlane:RedisBroker", "DRAMATIQ_BROKER_URL": seen.URL}
jobs.init_app(app)
broker = jobs.broker

if __name__ == "__main__":
    with seen.running("with_flask:broker"):
        for _ in range(10):
            works.send()
            awaits.send()
        seen.check("jobs in threads have their application", lambda: seen.notes().count("works in shop") == 10, 8)
        seen.check("async jobs have their application", lambda: seen.notes().count("awaits in shop") == 10, 5)
        seen.check("no hook fails", lambda: "CRITICAL" not in seen.log(), 0.1)
