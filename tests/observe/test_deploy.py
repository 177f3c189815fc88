"""The files in deploy/."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fourlane.observe.figures import CATALOGUE

ROOT = Path(__file__).parents[2]


def test_alert_rules_are_sound_and_have_their_runbooks() -> None:
    rules = ROOT / "deploy/prometheus-rules.yaml"
    text = rules.read_text()
    for page in re.findall(r"runbook: (\S+)", text):
        assert (ROOT / page).exists(), page
    assert {"HighErrorRate", "SlowResponseTime", "HighAICost"} <= set(re.findall(r"alert: (\w+)", text))
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    done = subprocess.run([promtool, "check", "rules", str(rules)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "file", ["deploy/prometheus-rules.yaml", "deploy/grafana-dashboard.json", "deploy/keda.yaml", "deploy/hpa.yaml"]
)
def test_files_name_only_figures_that_exist(file: str) -> None:
    code = (ROOT / "fourlane/observe/metrics.py").read_text()
    known = {f"fourlane_{name}" for name in CATALOGUE} | set(re.findall(r"fourlane_\w+", code))
    known |= {f"fourlane_{name}" for name in ("crashes", "hard_limit_kills", "poisoned")}
    known |= {"fourlane_slots_in_use"}  # made by the adapter, as deploy/hpa.yaml says
    for name in set(re.findall(r"fourlane_[a-z_]+", (ROOT / file).read_text())):
        assert re.sub(r"_(total|bucket|sum|count)$", "", name) in known, name


def test_the_dashboard_is_json() -> None:
    board = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) == 21
