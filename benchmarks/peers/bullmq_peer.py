"""BullMQ, on Node: the producer is a Node process too, driven over its pipes (bullmq.js)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.jobs import PAYLOAD
from benchmarks.peers.base import Peer

__all__ = ["ServedPeer"]

SCRIPT = Path(__file__).with_name("bullmq.js")
VERSION = os.environ.get("BENCH_BULLMQ", "latest")
"""What npm is asked for: a version, or ``5`` for the newest of that line."""
FOLDER = Path(__file__).parents[2] / ".bench" / f"bullmq-{VERSION}"


class ServedPeer(Peer):
    name = "bullmq"
    package = "bullmq"
    acknowledged = "after the run; a dead worker's jobs are found stalled after 30 to 60 s"
    settings = (
        "one Worker for each process, concurrency 100 (8 where the case asks for 8 slots), removeOnComplete; defaults "
        "otherwise; urgent: priority 1 before 10"
    )
    bulk = True
    tiers = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise ImportError("node or npm is not installed")
        if not (FOLDER / "node_modules" / "bullmq").exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / "package.json").write_text('{"private": true}')
            subprocess.run(
                [npm, "install", "--silent", f"bullmq@{VERSION}", "ioredis"],
                cwd=FOLDER,
                check=True,
                capture_output=True,
            )
        self.node = node
        self.producer = subprocess.Popen(
            [node, str(SCRIPT), "produce"],
            env=os.environ | self.env(os.environ["BENCH_CASE"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ask("ready")

    def version(self) -> str:
        found = json.loads((FOLDER / "node_modules" / "bullmq" / "package.json").read_text())["version"]
        node = subprocess.run([self.node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        return f"{found} (Node {node})"

    def env(self, case: str) -> dict[str, str]:
        return super().env(case) | {"NODE_PATH": str(FOLDER / "node_modules"), "BENCH_PAYLOAD": json.dumps(PAYLOAD)}

    def commands(self, case: str, processes: int) -> list[list[str]]:
        slots = "100" if case in ("drain", "drain2") else "8"
        return [[self.node, str(SCRIPT), "work", slots]] * processes

    def ask(self, verb: str, **words: Any) -> Any:
        """Have the producer do something; returns its answer."""
        assert self.producer.stdin is not None
        assert self.producer.stdout is not None
        self.producer.stdin.write(json.dumps({"verb": verb, **words}) + "\n")
        self.producer.stdin.flush()
        line = self.producer.stdout.readline()
        if not line:
            raise RuntimeError("the Node producer ended")
        return json.loads(line)

    def send(self, job: str, payload: dict[str, Any], *, urgent: bool = False, delay_ms: int = 0) -> None:
        self.ask("send", job=job, payload=payload, urgent=urgent, delay=delay_ms)

    def send_stamp(self, *, urgent: bool = False, delay_ms: int = 0) -> None:
        self.ask("stamp", urgent=urgent, delay=delay_ms)

    def fill(self, job: str, most: int, seconds: float, *, delay_ms: int = 0, least: int = 0) -> int:
        return int(self.ask("fill", job=job, most=most, seconds=seconds, delay=delay_ms, least=least))

    def one_at_a_time(self, seconds: float) -> float:
        return float(self.ask("one", seconds=seconds))

    def in_bulk(self, seconds: float) -> float:
        return float(self.ask("bulk", seconds=seconds))

    def close(self) -> None:
        assert self.producer.stdin is not None
        self.producer.stdin.close()
        self.producer.wait(5)
