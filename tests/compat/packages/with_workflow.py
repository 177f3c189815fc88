"""dramatiq-workflow: chains, groups and delays."""

import dramatiq
import seen
from dramatiq.rate_limits.backends import RedisBackend
from dramatiq_workflow import Chain, Group, WithDelay, Workflow, WorkflowMiddleware

import fourlane

broker = fourlane.RedisBroker(url=seen.URL)
broker.add_middleware(WorkflowMiddleware(RedisBackend(url=seen.URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(min_backoff=50, max_backoff=100)
def step(name: str) -> None:
    seen.note(name)


if __name__ == "__main__":
    same = step.message("same")
    flow = Chain(
        step.message("first"),
        Group(step.message("left"), step.message("right"), Chain(step.message("a"), step.message("b"))),
        WithDelay(step.message("late"), delay=200),
        Group(same, same, same),
        step.message("last"),
    )
    with seen.running("with_workflow"):
        Workflow(flow).run()
        seen.check("all steps run", lambda: len(seen.notes()) == 10)
        seen.check(
            "first comes first, last comes last", lambda: (seen.notes()[0], seen.notes()[-1]) == ("first", "last")
        )
