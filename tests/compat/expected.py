"""What differs, and why: the reason, then the names. docs/dramatiq.md says the same in words."""

from __future__ import annotations

from typing import Final

from tests.compat.results import Expected

__all__ = ["EXPECTED"]

_INSIDE_STUB: Final = "asks for the inside of StubBroker, which a broker on Redis does not have"
_INSIDE_REDIS: Final = "asks for the keys and commands of dramatiq's RedisBroker"
_INSIDE_WORKER: Final = "asks for the threads and queues inside dramatiq's Worker"
_UNDECLARED: Final = "a queue need not be declared by who sends, as with dramatiq's RedisBroker"
_PARKED: Final = "a job of a task that nobody knows waits for a worker that does, for 24 h: a deploy may be under way"
_STOPPED: Final = "a job that a stop interrupts goes back and runs again, with no attempt spent"
_PRIORITY: Final = "tiers decide, actor.priority has no meaning"
_LOG: Final = "log lines are our own; their levels are dramatiq's, but a rate limit is INFO and not DEBUG"

_BOTH: Final = {
    _INSIDE_STUB: (
        "test_actors::test_actors_can_be_sent_messages",
        "test_actors::test_worker_handles_non_numeric_eta_and_logs_warning",
        "test_actors::test_worker_handles_none_eta",
        "test_stub_broker::test_stub_broker_can_be_flushed",
        "test_stub_broker::test_stub_broker_respects_prefetch",
    ),
    _UNDECLARED: (
        "test_stub_broker::test_stub_broker_raises_queue_error_when_enqueueing_messages_on_undeclared_queues",
        "test_stub_broker::test_stub_broker_raises_queue_error_when_joining_on_undeclared_queues",
    ),
    _INSIDE_REDIS: (
        "test_redis::test_redis_unacked_messages_can_be_requeued",
        "test_redis::test_redis_messages_can_be_dead_lettered",
        "test_redis::test_redis_dead_lettered_messages_are_cleaned_up",
        "test_redis::test_redis_requeues_unhandled_messages_on_shutdown",
        "test_redis::test_redis_requeues_unhandled_delay_messages_on_shutdown",
        "test_redis::test_redis_consumer_ack_can_retry_on_connection_error",
        "test_redis::test_redis_consumer_nack_can_retry_on_connection_error",
        "test_redis::test_redis_consumer_nack_does_not_raise_on_missing_id",
    ),
}
_DRAMATIQ: Final = {
    _INSIDE_STUB: ("test_actors::test_messages_belonging_to_missing_actors_are_rejected",),
    _INSIDE_REDIS: ("test_redis::test_redis_messages_belonging_to_missing_actors_are_rejected",),
}
_FOURLANE: Final = {
    _PARKED: (
        "test_actors::test_messages_belonging_to_missing_actors_are_rejected",
        "test_redis::test_redis_messages_belonging_to_missing_actors_are_rejected",
    ),
    _STOPPED: (
        "middleware.test_shutdown::test_shutdown_notifications_are_received",
        "middleware.test_shutdown::test_shutdown_notifications_dont_notify_completed_threads",
    ),
    _PRIORITY: ("test_actors::test_actors_can_prioritize_work",),
    _LOG: (
        "middleware.test_retries::test_actor_with_throws_logs_info_and_does_not_retry[*]",
        "test_actors::test_workers_log_rate_limit_exceeded_errors_differently",
    ),
    _INSIDE_WORKER: (
        "test_worker::test_workers_dont_register_queues_that_arent_whitelisted",
        "with_opentelemetry: a span of who works",
    ),
}


def _by_name(*reasons: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: reason for given in reasons for reason, names in given.items() for name in names}


EXPECTED: Final[Expected] = {"dramatiq": _by_name(_BOTH, _DRAMATIQ), "fourlane": _by_name(_BOTH, _FOURLANE)}
