"""The cut of ``make chaos`` for every day: each fault once, on real processes, within a minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.checker import check
from tests.chaos.evidence import load
from tests.chaos.faults import CATALOGUE
from tests.chaos.report import report
from tests.chaos.runner import brief, run

SEED = 7


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_a_minute_of_all_faults(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(brief(SEED, list(CATALOGUE)), folder)
    evidence = load(folder)
    findings = check(evidence)
    again = f'make chaos ARGS="--brief --seed {SEED}"'
    assert not findings, f"{report(evidence, findings)}\n\nkept: {folder}\nagain: {again}"
    assert len(evidence.runs) > 500, "there was work"
