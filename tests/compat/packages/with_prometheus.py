"""dramatiq's Prometheus middleware: counters, and the server that shows them."""

import os
import socket
import urllib.request

import seen

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = os.environ.setdefault("dramatiq_prom_port", str(probe.getsockname()[1]))
os.environ["dramatiq_prom_host"] = "127.0.0.1"
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(seen.FOLDER))

import dramatiq  # noqa: E402 - the port is read when it is imported
from dramatiq.middleware.prometheus import Prometheus  # noqa: E402

import fourlane  # noqa: E402

broker = fourlane.RedisBroker(url=seen.URL)
broker.add_middleware(Prometheus(http_host="127.0.0.1", http_port=int(port)))
dramatiq.set_broker(broker)


@dramatiq.actor
def works() -> None:
    seen.note("worked")


def shown() -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return str(answer.read().decode())


if __name__ == "__main__":
    with seen.running("with_prometheus"):
        works.send()
        seen.check("the job runs", lambda: "worked" in seen.notes())
        seen.check("its server shows the job", lambda: 'dramatiq_messages_total{actor_name="works"' in shown(), 5)
