"""The cut of ``make chaos`` for every day: each fault once, on real processes, within a minute."""

from __future__ import annotations

import shutil
import tempfile
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
def test_a_minute_of_all_faults() -> None:
    # Not in pytest's own folder, which others' sessions clean.
    folder = Path(tempfile.mkdtemp(prefix="chaos-")) / "run"
    run(brief(SEED, list(CATALOGUE)), folder)
    evidence = load(folder)
    findings = check(evidence)
    again = f'make chaos ARGS="--brief --seed {SEED}"'
    assert not findings, f"{report(evidence, findings)}\n\nkept: {folder}\nagain: {again}"
    assert len(evidence.runs) > 500, "there was work"
    shutil.rmtree(folder.parent)
