"""Modules that do not import: a worker that cannot start says why in a line."""

from __future__ import annotations

import pytest

from tests.workers import Workers


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import sys\nsys.exit('not now')\n", "SystemExit: not now ("),
        ("x = 1\nx.y\n", "AttributeError: 'int' object has no attribute 'y' ("),
        ("import fourlane\n\n@fourlane.task(tier='P9')\ndef t(): ...\n", "'P9'"),
    ],
)
def test_why_a_module_does_not_import_is_told_in_a_line(workers: Workers, source: str, line: str) -> None:
    (workers.folder / "faulty.py").write_text(source)
    process = workers.start(module="faulty")
    assert process.wait(30) == 78
    (told,) = [text for text in workers.log(process).splitlines() if "cannot start" in text]
    assert line in told
    assert "faulty.py, line" in told
    assert "Traceback" not in workers.log(process)


CANNOT_START = {
    "no_such_module": ("", "no_such_module"),
    "broken_tasks": ("raise ValueError('this module is broken')", "this module is broken"),
    "secret_tasks": (
        "import fourlane\n@fourlane.task(encrypt=True)\ndef charge(card): ...",
        "charge are encrypted: FOURLANE_ENCRYPTION_KEYS is not set",
    ),
}


@pytest.mark.parametrize("module", CANNOT_START)
def test_a_module_whose_jobs_cannot_run(workers: Workers, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, why = CANNOT_START[module]
    monkeypatch.setitem(workers.env, "FOURLANE_ENVIRONMENT", "staging")
    if text:
        (workers.folder / f"{module}.py").write_text(f"{text}\n")
    process = workers.start(module=module)
    assert process.wait(30) == 78
    [line] = [line for line in workers.log(process).splitlines() if "cannot start" in line]
    assert why in line
    assert "Traceback" not in workers.log(process)
