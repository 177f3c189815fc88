"""What programs do not load: time at their start and memory for as long as they live."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.command import Command
from tests.command import command as command

ROOT = Path(__file__).parents[1]
NEVER = {
    "apscheduler", "boto3", "cryptography", "httpx", "importlib.metadata", "opentelemetry", "prometheus_client",
    "pydantic", "redis", "sentry_sdk", "sqlalchemy", "stripe", "uvloop",
}  # fmt: skip
SUPERVISED = NEVER | {"asyncio", "click", "dramatiq", "fourlane.app", "http.server", "tempfile"}
FIRST_SEND = """
import sys
import fourlane

@fourlane.task
def work(number): ...

work.send(1)
print(*sys.modules)
"""


def loaded(code: str, folder: Path, url: str) -> set[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "REDIS_URL": url}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def always() -> set[str]:
    """What the interpreter here loads by itself."""
    return set(subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True,
                              text=True, timeout=60, check=True).stdout.split())  # fmt: skip


def test_a_first_send_loads_what_it_needs(redis_url: str, tmp_path: Path) -> None:
    assert loaded(FIRST_SEND, tmp_path, redis_url) & NEVER - always() == set()


def test_a_supervisor_loads_what_it_needs(redis_url: str, tmp_path: Path) -> None:
    code = "import sys; import fourlane.commands.supervise; print(*sys.modules)"
    assert loaded(code, tmp_path, redis_url) & SUPERVISED - always() == set()


def test_a_supervisor_that_serves_has_loaded_nothing_more(command: Command) -> None:
    """What it has mapped tells, for a process of ours is not asked."""
    tasks = command.module("work_tasks", "import fourlane\n\n@fourlane.task\ndef work(): ...\n")
    process = command.start("worker", tasks, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("ready:" in line for line in process.stderr)
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    found = set(re.findall(r"/(?:site-packages|lib-dynload)/([a-z_0-9]+)", maps))
    assert not found & {"pydantic_core", "uvloop", "_asyncio", "_ssl", "cryptography"}
    process.terminate()
    assert process.wait(30) == 0
