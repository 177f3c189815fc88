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
    assert process.wait(10) == 78
    (told,) = [text for text in workers.log(process).splitlines() if "cannot start" in text]
    assert line in told
    assert "faulty.py, line" in told
    assert "Traceback" not in workers.log(process)


@pytest.mark.parametrize("module", ["no_such_module", "broken_tasks"])
def test_a_module_that_does_not_import(workers: Workers, module: str) -> None:
    (workers.folder / "broken_tasks.py").write_text("raise ValueError('this module is broken')\n")
    process = workers.start(module=module)
    assert process.wait(10) == 78
    lines = [line for line in workers.log(process).splitlines() if "cannot start" in line]
    assert len(lines) == 1
    assert ("no_such_module" if module == "no_such_module" else "this module is broken") in lines[0]
    assert "Traceback" not in workers.log(process)
