"""Schedules in code: what is refused, and what Redis knows after each deploy."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import dramatiq
import pytest

import fourlane
from fourlane.errors import InvalidSchedule
from fourlane.queues import schedules
from fourlane.queues.broker import RedisBroker
from fourlane.queues.store import Store
from fourlane.scheduler import manage
from fourlane.scheduler.declare import add, synchronise

Deploy = Callable[..., RedisBroker]


@pytest.fixture
def deploy(
    broker: RedisBroker, redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deploy]:
    """Starts a process with these modules, as far as schedules are concerned: ``deploy(boot, app="…source…")``.

    A boot may be earlier than one before: then a process of the older deploy starts again.
    """
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    opened: list[RedisBroker] = []

    def start(boot_ms: int, **modules: str) -> RedisBroker:
        for name in [n for n in sys.modules if n.partition(".")[0] == "shop"]:
            del sys.modules[name]
        for old in (tmp_path / "shop").glob("[a-z]*.py"):
            old.unlink()
        of_process = RedisBroker(url=redis_url, namespace=namespace)
        opened.append(of_process)
        dramatiq.set_broker(of_process)
        for name, source in modules.items():
            (tmp_path / "shop" / f"{name}.py").write_text("import fourlane\n" + source)
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        for name in modules:
            importlib.import_module(f"shop.{name}")
        synchronise(of_process, boot_ms)
        return of_process

    yield start
    sys.dont_write_bytecode = False
    for one in opened:
        one.close()


def stored(store: Store) -> dict[str, str]:
    return {f.schedule.name: f.schedule.cron for f in manage.every_schedule(store)}


def declared(name: str, cron: str = "0 3 * * *", more: str = "") -> str:
    return f'@fourlane.cron("{cron}"{more})\n@fourlane.task\ndef {name}() -> None: ...\n'


def test_added_changed_removed_renamed(store: Store, deploy: Deploy) -> None:
    deploy(1, app=declared("a") + declared("b"))
    assert stored(store) == {"a": "0 3 * * *", "b": "0 3 * * *"}
    deploy(2, app=declared("a", "0 4 * * *") + declared("c"))
    assert stored(store) == {"a": "0 4 * * *", "c": "0 3 * * *"}, "b became c"
    deploy(3, app="")
    assert stored(store) == {}
    keys = store.service("default")
    left = (keys.schedules, keys.states, keys.fires, keys.declared, keys.runs("a"))
    assert store.connector.command(keys.jobs, "EXISTS", *left) == 0, "nothing is left behind"


def test_a_schedule_may_move_to_another_module(store: Store, deploy: Deploy) -> None:
    deploy(1, app=declared("a"), tools="")
    before = manage.find(store, "a").state
    deploy(2, app="", tools=declared("a"))
    assert stored(store) == {"a": "0 3 * * *"}
    assert manage.find(store, "a").schedule.module == "shop.tools"
    assert manage.find(store, "a").state.next_ms == before.next_ms


def test_a_module_that_was_deleted_or_renamed_leaves_nothing(store: Store, deploy: Deploy) -> None:
    deploy(1, app=declared("a"), tools=declared("b"))
    deploy(2, app=declared("a"))
    assert stored(store) == {"a": "0 3 * * *"}
    deploy(3, new=declared("a", "0 5 * * *"))
    assert stored(store) == {"a": "0 5 * * *"}
    assert list(schedules.declared(store, "default")) == ["shop.new"]


def test_what_other_programs_and_people_declare_stays(store: Store, broker: RedisBroker, deploy: Deploy) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "by-hand", every=timedelta(minutes=5))
    deploy(1, app=declared("a"))
    other = schedules.Schedule(
        name="other", service="default", task="x", cron="0 1 * * *", module="elsewhere.tasks", place="elsewhere"
    )
    write = manage.written(other, None, schedules.now_ms(store, "default"))
    assert write is not None
    assert schedules.write(store, "default", [write], [("elsewhere.tasks", b"", b'{"boot_ms":1,"names":["other"]}')])
    deploy(2, app="")
    assert sorted(stored(store)) == ["by-hand", "other"]


def test_two_deploys_at_once_do_not_fight(store: Store, deploy: Deploy) -> None:
    old, new = declared("a") + declared("gone"), declared("a", "0 4 * * *")
    deploy(100, app=old)
    deploy(200, app=new)
    deploy(100, app=old)  # a process of the old deploy dies and starts again
    assert stored(store) == {"a": "0 4 * * *"}
    deploy(200, app=new)
    assert stored(store) == {"a": "0 4 * * *"}
    deploy(300, app=old)  # rolled back
    assert sorted(stored(store)) == ["a", "gone"]


def test_a_deploy_keeps_what_is_due_and_what_an_operator_said(store: Store, deploy: Deploy) -> None:
    source = declared("a") + declared("b")
    deploy(1, app=source)
    _, state, text = schedules.read(store, "default", ["a"])["a"]
    late = schedules.now_ms(store, "default") - 5_000
    import msgspec

    due = schedules.encode(msgspec.structs.replace(state, next_ms=late))
    assert schedules.write(store, "default", [schedules.Write("a", text, None, due, late)])
    manage.pause(store, "b")
    deploy(2, app=source)
    assert manage.find(store, "a").state.next_ms == late
    assert manage.find(store, "b").state.paused
    deploy(3, app=source.replace("0 3", "* 3"))
    assert manage.find(store, "b").state.paused, "an edit does not end a pause"


def test_a_process_without_schedules_asks_and_writes_nothing(store: Store, deploy: Deploy) -> None:
    deploy(1, app="@fourlane.task\ndef a(): ...\n")
    assert store.connector.command(store.keys.services, "KEYS", f"{store.namespace}*") == []


def test_several_services(store: Store, deploy: Deploy) -> None:
    source = declared("a").replace("@fourlane.task", '@fourlane.task(service="billing")')
    deploy(1, app=source + declared("b"))
    assert manage.find(store, "a").schedule.service == "billing"
    deploy(2, app=declared("b"))
    assert stored(store) == {"b": "0 3 * * *"}, "the service's last task took its schedules along"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (declared("a", "0 0 30 2 *"), "shop.app, line 2: schedule 'a': .*never fires"),
        (declared("a", "0 0 * * *", ', timezone="Mars/X"'), "shop.app, line 2: schedule 'a': .*no time zone"),
        (declared("a", "0 0 * * *", ", args=[1]"), "schedule 'a': its arguments do not fit a: too many"),
        (declared("a") + declared("a2", more=', name="a"'), "line 5: schedule 'a' is declared already at .*line 2"),
        ('@fourlane.task\n@fourlane.cron("* * * * *")\ndef a(): ...\n', "no task; put the schedule above"),
        ("@fourlane.every()\n@fourlane.task\ndef a(): ...\n", "1 second or longer"),
    ],
)
def test_refused_where_it_is_declared(deploy: Deploy, source: str, reason: str) -> None:
    with pytest.raises(InvalidSchedule, match=reason):
        deploy(1, app=source)


def test_one_task_may_have_several(store: Store, deploy: Deploy) -> None:
    deploy(
        1,
        app='@fourlane.every(minutes=5, name="often")\n@fourlane.cron("0 3 * * *", name="daily", tier="low")\n'
        "@fourlane.task\ndef a() -> None: ...\n",
    )
    assert sorted(stored(store)) == ["daily", "often"]
    assert manage.find(store, "daily").schedule.tier == 2
    assert manage.find(store, "often").schedule.every_ms == 300_000


def test_code_takes_over_what_was_added_at_run_time(store: Store, broker: RedisBroker, deploy: Deploy) -> None:
    @fourlane.task
    def work() -> None: ...

    add(work, "a", every=timedelta(minutes=5))
    deploy(1, app=declared("a"))
    assert manage.find(store, "a").schedule.module == "shop.app"
    with pytest.raises(InvalidSchedule, match=r"declared in code at shop\.app, line 2"):
        add(work, "a", every=timedelta(minutes=5))
    with pytest.raises(InvalidSchedule, match="remove it there"):
        manage.remove(store, "a")
    manage.remove(store, "a", force=True)
    assert stored(store) == {}
