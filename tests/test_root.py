"""The parts of a process: each made once, closed at its end, and not shared with a forked child."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fourlane.app import App
from fourlane.config import load_settings
from fourlane.errors import SettingsError
from fourlane.queues.opening import Opening, opening_here, opening_of
from fourlane.root import Root, root
from fourlane.tasks.ai.config import configured
from fourlane.tasks.webhooks import setup


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_threads_get_the_same_part() -> None:
    begun, made = threading.Barrier(4), []

    def make(of: Root) -> object:
        made.append(of)
        return object()

    def ask() -> None:
        begun.wait()
        found.append(here.part(make))

    here, found = Root(), []  # type: ignore[var-annotated]
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made, len(set(found))) == ([here], 1)


def test_a_part_that_could_not_be_made_is_made_the_next_time() -> None:
    tries = iter([SettingsError("not yet"), None])

    def make(of: Root) -> str:
        if (error := next(tries)) is not None:
            raise error
        return "made"

    here = Root()
    with pytest.raises(SettingsError):
        here.part(make)
    assert here.part(make) == "made"


def test_the_last_is_closed_first_and_made_anew_when_it_is_asked_for() -> None:
    closed = []

    def below(of: Root) -> object:
        of.on_close(lambda: closed.append("below"))
        return object()

    def above(of: Root) -> object:
        of.part(below)
        of.on_close(lambda: closed.append("above"))
        return object()

    here = Root()
    first = here.part(above)
    here.close()
    assert closed == ["above", "below"]
    assert here.part(above) is not first


def test_one_database_for_all_who_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_AI", '{"log_rows": true}')
    assert configured().database is App().database
    assert setup.setup().database is App().database
    assert App(load_settings()).database is not App().database


def test_what_is_given_stands_in_the_place_of_settings(
    monkeypatch: pytest.MonkeyPatch, own_root: Callable[[], None]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://given")
    given = opening_of(load_settings())
    own_root()
    monkeypatch.setenv("FOURLANE_SLOTS", "no number")  # who reads the settings fails
    root().give(Opening, given)
    assert opening_here() is given
    with pytest.raises(SettingsError):
        App().settings  # noqa: B018


def test_at_the_end_of_a_process_its_parts_are_closed_and_a_child_has_its_own() -> None:
    program = """
import os
from fourlane.root import root

def part(of):
    me = os.getpid()
    of.on_close(lambda: print("closed", me == os.getpid(), flush=True))
    return me

assert root().part(part) == os.getpid()
if os.fork() == 0:
    assert root().part(part) == os.getpid()
else:
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("closed True\n" * 2, "")


def test_a_process_that_needs_no_settings_loads_no_pydantic() -> None:
    program = """
import sys
import fourlane.own, fourlane.worker.process, fourlane.app
assert not {"pydantic", "sqlalchemy", "boto3", "httpx"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True, env=os.environ | {"PYTHONSAFEPATH": "1"})
