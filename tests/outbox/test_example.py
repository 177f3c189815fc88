from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.command import Command


def test_the_example(tmp_path: Path) -> None:
    """Also what ``make run`` shows: relays killed, and each committed order confirmed once."""
    ended = subprocess.run(
        [sys.executable, "-m", "examples.outbox"],
        cwd=tmp_path,
        env=Command(tmp_path).env,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "300 orders, 200 committed: 200 confirmed, 0 missing, 0 twice" in ended.stdout
