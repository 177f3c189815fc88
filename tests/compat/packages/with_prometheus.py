"""dramatiq's Prometheus middleware: counters, and the server that shows them."""

import os
import socket
import urllib.request

import seen

PORT, HOST, FOLDER = "dramatiq_prom_port", "dramatiq_prom_host", "dramatiq_prom_db"
if PORT not in os.environ:  # the worker has it from the program
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ |= {PORT: str(probe.getsockname()[1]), HOST: "127.0.0.1", FOLDER: str(seen.FOLDER / "prometheus")}

import dramatiq  # noqa: E402 - these settings are read when it is imported
from dramatiq.middleware.prometheus import Prometheus  # noqa: E402

import fourlane  # noqa: E402

broker = fourlane.RedisBroker(url=seen.URL)
broker.add_middleware(Prometheus())
dramatiq.set_broker(broker)


@dramatiq.actor
def works() -> None:
    seen.note("worked")


def shown() -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{os.environ[PORT]}/", timeout=5) as answer:
        return str(answer.read().decode())


if __name__ == "__main__":
    with seen.running("with_prometheus"):
        works.send()
        seen.check("the job runs", lambda: "worked" in seen.notes())
        seen.check("its server shows the job", lambda: 'dramatiq_messages_total{actor_name="works"' in shown(), 5)
