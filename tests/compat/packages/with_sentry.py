"""sentry-sdk: unexpected errors are reported once, with the job's name; expected ones are not."""

from typing import Any

import dramatiq
import seen
import sentry_sdk
from dramatiq.errors import Retry
from sentry_sdk.integrations.dramatiq import DramatiqIntegration

import fourlane


def report(event: Any, hint: Any) -> None:
    error = event.get("exception", {}).get("values", [{}])[-1].get("type", "no exception")
    seen.note(f"{event.get('transaction', 'no transaction')}: {error}")


sentry_sdk.init("http://key@127.0.0.1:9/1", integrations=[DramatiqIntegration()], before_send=report)
dramatiq.set_broker(fourlane.RedisBroker(url=seen.URL))


@dramatiq.actor(max_retries=0)
def fails() -> None:
    raise OSError("unexpected")


@dramatiq.actor(throws=KeyError)
def throws() -> None:
    raise KeyError("expected")


@dramatiq.actor(max_retries=1)
def again() -> None:
    raise Retry("not yet", delay=1)


@dramatiq.actor
def works() -> None:
    seen.note("worked")


if __name__ == "__main__":
    with seen.running("with_sentry"):
        for actor in (fails, throws, again):
            actor.send()
        seen.check("an unexpected error is reported with its job", lambda: "fails: OSError" in seen.notes())
        works.send()
        seen.check("the worker goes on", lambda: "worked" in seen.notes())
    reported = [note.rpartition(": ")[2] for note in seen.notes() if note != "worked"]
    seen.check("nothing else is reported", lambda: set(reported) == {"OSError"}, 0.1)
