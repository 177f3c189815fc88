"""A receiver process: what events/starter.py starts. ``python -m fourlane.events.process``, driven over its stdin."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from functools import partial

import msgspec

from fourlane import observe
from fourlane.config import folder, load_settings
from fourlane.errors import FourlaneError
from fourlane.events import catalogue
from fourlane.events.aws import Aws
from fourlane.events.direct import Direct
from fourlane.events.hand import Hand, give_back, left_in, set_receiving
from fourlane.events.mover import Mover
from fourlane.events.receiver import Receivers
from fourlane.events.setup import sqs
from fourlane.events.starter import Spec, way_of
from fourlane.observe import logs
from fourlane.queues.store import Store
from fourlane.root import root
from fourlane.tasks.modules import import_modules
from fourlane.telling import tell
from fourlane.watchdog import Watchdog, ping_of
from fourlane.worker.process import host

__all__ = ["main"]

log = logging.getLogger("fourlane.events")

_LONGEST_PAUSE_SECONDS = 30.0
_PATIENCE_SECONDS = 180.0  # several calls of an SQS that does not answer
_LAST_SECONDS = 2.0


def main() -> None:
    """Receive until told to stop, or until stdin ends: then the worker is dead."""
    host.take_signals()
    host.write_by_line()
    folder.keep()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # the worker died while it started this process
    spec = msgspec.json.decode(line, type=Spec)
    sys.path[:0] = [path for path in spec.path if path not in sys.path]
    watched = msgspec.structs.replace(observe.observe_of(load_settings()), log_level=spec.log_level)
    observe.configure_logs(watched)
    observe.begin(watched)
    import_modules(spec.modules)
    logs.hear_ours_again()
    hand = Hand(spec.hand_fd)
    threading.Thread(target=_listen, args=(stopping, hand), name="fourlane-listen", daemon=True).start()
    serve(spec, stopping, hand)
    tell.closing()
    host.leave(0, _LAST_SECONDS)  # long polls that have nothing in hand are left


def serve(spec: Spec, stopping: threading.Event, hand: Hand) -> None:
    """Receive for all handlers of one way."""
    from fourlane.tasks.task import default_broker

    store, settings = default_broker().opened.store, root().settings
    aws = _aws(stopping)
    if aws is None:
        return
    handlers = {event: several for event, several in catalogue.handlers().items() if way_of(several) == spec.way}
    queues = [catalogue.queue_of(event, store.environment) for event in handlers]
    watchdog = Watchdog(_PATIENCE_SECONDS)
    worker: Mover | Direct
    visibility_seconds = settings.events_visibility_seconds
    if spec.way == "direct":
        worker = Direct(
            aws,
            store,
            handlers,
            stopping,
            name=f"{socket.gethostname()}-{os.getpid()}",
            slots=settings.slots,
            timeout_ms=settings.timeout_ms,
            visibility_seconds=visibility_seconds,
            hand=hand,
        )
    else:
        worker = Mover(
            aws, store, handlers, stopping, visibility_seconds=visibility_seconds, watchdog=watchdog, hand=hand
        )
    _take_over(spec, hand, aws, store)
    receivers = Receivers(
        aws,
        worker,
        queues,
        most=settings.events_receivers,
        visibility_seconds=visibility_seconds,
        watchdog=watchdog,
    )
    receivers.start()
    watchdog.start(ping_of(store.connector, store.keys.services))
    log.info("receiving way=%s events=%s", spec.way, ",".join(str(queue.event) for queue in queues))
    stopping.wait()
    _stop(receivers, worker, spec.grace_seconds)


def _aws(stopping: threading.Event) -> Aws | None:
    """AWS once the settings and it allow; None when told to stop first."""
    pause = 0.5
    while True:
        try:
            return root().part(sqs)
        except FourlaneError as error:
            log.error("events are not received: %s", error)
            if stopping.wait(pause):
                return None
            pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)


def _take_over(spec: Spec, hand: Hand, aws: Aws, store: Store) -> None:
    """Give back what a process that died before this one had in hand."""
    hand.settled_by = partial(give_back, aws, store)
    give_back(aws, store, left_in(spec.hand_fd), died=True, killed=spec.killed)
    set_receiving(spec.hand_fd, True)


def _stop(receivers: Receivers, worker: Mover | Direct, grace_seconds: float) -> None:
    """Half of the time is for receives that are under way, the rest for handlers that run."""
    began = time.monotonic()
    receivers.stop()
    receivers.join(grace_seconds / 2)
    if isinstance(worker, Direct):
        worker.stop(max(0.0, grace_seconds - 1 - (time.monotonic() - began)))


def _listen(stopping: threading.Event, hand: Hand) -> None:
    if sys.stdin.buffer.readline():
        stopping.set()
        sys.stdin.buffer.read()
    # The worker is dead. Its successor need not wait for what is in hand here.
    stopping.set()
    giving = threading.Thread(target=hand.give_back, daemon=True)
    giving.start()
    giving.join(_LAST_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
