"""sentry-dramatiq: the older package of that integration."""

from typing import Any

import dramatiq
import seen
import sentry_sdk
from sentry_dramatiq import DramatiqIntegration

import fourlane


def report(event: Any, hint: Any) -> None:
    seen.note(event.get("exception", {}).get("values", [{}])[-1].get("type", "no exception"))


sentry_sdk.init("http://key@127.0.0.1:9/1", integrations=[DramatiqIntegration()], before_send=report)
dramatiq.set_broker(fourlane.RedisBroker(url=seen.URL))


@dramatiq.actor(max_retries=0)
def fails() -> None:
    raise OSError("unexpected")


if __name__ == "__main__":
    with seen.running("with_sentry_dramatiq"):
        fails.send()
        seen.check("an error is reported", lambda: "OSError" in seen.notes())
