"""Where ``make compat`` works: an environment with dramatiq, its packages and this project; dramatiq's tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

__all__ = ["Place"]

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
NEEDS: Final = (
    *("pytest", "pytest-timeout", "pika", "gevent", "watchdog", "watchdog_gevent"),
    *("dramatiq-abort", "dramatiq-workflow", "django-dramatiq", "flask-dramatiq", "periodiq", "dramatiq-crontab"),
    *("sentry-dramatiq", "opentelemetry-instrumentor-dramatiq"),
)


class Place:
    """A folder that git ignores."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.bin = self.folder / "env" / "bin"

    def make(self) -> None:
        """The environment: made once, and brought up to date when what it needs has changed."""
        stamp, needs = self.folder / "needs", (ROOT / "setup.cfg").read_text() + "\n".join(NEEDS)
        if stamp.exists() and stamp.read_text() == needs:
            return
        if not (self.bin / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", self.folder / "env"], check=True)
        self._pip("install", "--editable", f"{ROOT}[prometheus,sentry,otel]", *NEEDS)
        stamp.write_text(needs)

    def unpack_tests(self, source: Path | None) -> Path:
        """dramatiq's tests of the version that is installed, with our fixtures. Returns the folder above them."""
        folder = self.folder / "suite"
        shutil.rmtree(folder, ignore_errors=True)
        if source is None:
            source = self._sdist()
        ignored = shutil.ignore_patterns("__pycache__")
        tests = Path(shutil.copytree(source / "tests", folder / "tests", ignore=ignored))
        for ours, theirs in (
            ("package", "__init__"),
            ("fixtures", "conftest"),
            ("common", "common"),
            ("loop_worker", "loop_worker"),
        ):
            shutil.copy(HERE / "suite" / f"{ours}.py", tests / f"{theirs}.py")
        (folder / "pytest.ini").write_text("[pytest]\n")
        return folder

    def environ(self, worker: str, redis_url: str, folder: Path) -> dict[str, str]:
        """Of a process that works with this worker: nothing of the developer's shell but what any program needs."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return kept | {
            "REDIS_URL": redis_url,
            "COMPAT_WORKER": worker,
            "COMPAT_FOLDER": str(folder),
            "PYTHONUNBUFFERED": "1",
        }

    def _sdist(self) -> Path:
        version = self._output("-c", "import importlib.metadata as m; print(m.version('dramatiq'))")
        downloads = self.folder / "sdist"
        shutil.rmtree(downloads, ignore_errors=True)
        self._pip("download", "--no-deps", "--no-binary", "dramatiq", "--dest", str(downloads), f"dramatiq=={version}")
        (archive,) = downloads.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(downloads, filter="data")
        return downloads / archive.name.removesuffix(".tar.gz")

    def _output(self, *arguments: str) -> str:
        done = subprocess.run([self.bin / "python", *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def _pip(self, *arguments: str) -> None:
        command = [self.bin / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout}\npip {arguments[0]} failed")
