"""What is typed that no command can take: told in a line, by the type of the argument."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.conftest import Run

DEEP = "[" * 50_000


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["queues", "--sample", "nan"], "not a number"),
        (["queues", "--sample", "inf"], "range"),
        (["dead", "replay", "--all", "--yes", "--rate", "nan"], "not a number"),
        (["dead", "replay", "--all", "--yes", "--rate", "inf"], "range"),
        (["dead", "replay", "--all", "--yes", "--rate", "1e-320"], "range"),
        (["events", "redrive", "a.b", "--rate", "nan"], "not a number"),
        (["enqueue", "x", "--delay", "nan"], "not a number"),
        (["enqueue", "x", "--kwargs", DEEP], "nested too deeply"),
        (["enqueue", "x", "--kwargs", "[]"], "is not a JSON object"),
        (["dead", "edit", "x", "--args", DEEP], "nested too deeply"),
        (["dead", "edit", "x", "--args", '["\\ud800"]'], "half a letter"),
        (["events", "publish", "a.b", DEEP], "nested too deeply"),
        (["limits", "set", "x", "--per", "9" * 400 + "d"], "longer than 100 years"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value)[:40],
)
def test_what_is_no_value(run: Run, args: list[str], words: str) -> None:
    assert words in run(*args, code=2).stderr


def test_a_file_that_is_no_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "letters").write_bytes(b"\n\xff\xfe\n")
    assert "error: line 2: " in run("dead", "import", "letters", code=1).stderr
