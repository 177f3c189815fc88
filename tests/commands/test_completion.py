"""``fourlane completion``, in a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import Run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    assert "_FOURLANE_COMPLETE" in run("completion", shell).stdout


COMPLETE = """
eval "$(fourlane completion bash)"
complete -p fourlane | grep -q _fourlane_completion || exit 3
COMP_WORDS=({words}); COMP_CWORD={last}
_fourlane_completion fourlane; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["fourlane", "de"], {"dev"}),
        (["fourlane", "dead", "re"], {"replay"}),
        (["fourlane", "queues", "p"], {"pause", "purge"}),
        (["fourlane", "dead", "replay", "--dr"], {"--dry-run"}),
        (["fourlane", "dead", "list", "--reason", "p"], {"poison"}),
    ],
)
def test_bash_completes(words: list[str], offered: set[str], tmp_path: Path) -> None:
    script = tmp_path / "fourlane"
    script.write_text(f"#!{sys.executable}\nfrom fourlane.cli import main\nmain()\n")
    script.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", COMPLETE.format(words=" ".join(words), last=len(words) - 1)],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert set(done.stdout.split()) >= offered, done.stderr
    assert all(word.startswith(words[-1]) for word in done.stdout.split())
