"""One organization does its worst for some seconds: nothing of another's is seen, changed or lost.

``python -m benchmarks.hostile`` does it for two minutes, and measures how long the other waits.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres import Postgres

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_a_hostile_tenant_beside_another(postgres_server: Postgres) -> None:
    # In a process of its own: the platform's settings are its environment.
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.hostile", "--short"],
        cwd=ROOT,
        env=os.environ | {"TEST_DATABASE_URL": postgres_server.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert "nothing of Bird's was" in ran.stdout
    assert "prying refused 42501" in ran.stdout  # it was at it
