"""What ids and entries of jobs tell."""

from __future__ import annotations

import os
import random
import threading

from fourlane.job import new_id, new_ids, ready_since_ms

NOW_MS = 1_764_000_000_123


def test_an_entry_tells_since_when_it_is_ready() -> None:
    job_id = new_id(1, 1_764_000_000_123)
    assert ready_since_ms(job_id) == 1_764_000_000_123
    assert ready_since_ms(f"{job_id}|rt1764000009999") == 1_764_000_009_999
    assert ready_since_ms("1.some-uuid|r") is None


def test_ids_do_not_follow_from_a_seed() -> None:
    random.seed(1)
    first = [new_id(1, NOW_MS) for _ in range(3)] + new_ids(1, NOW_MS, 3)
    random.seed(1)
    assert not {*first} & {*[new_id(1, NOW_MS) for _ in range(3)], *new_ids(1, NOW_MS, 3)}


def test_threads_and_forks_hand_out_no_id_twice() -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend([new_id(1, NOW_MS) for _ in range(2_000)])) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receives, sends = os.pipe()
    new_id(1, NOW_MS)  # there are numbers left that a child would have too
    child = os.fork()
    if not child:
        os.write(sends, "\n".join(new_id(1, NOW_MS) for _ in range(600)).encode())
        os._exit(0)
    os.close(sends)
    with open(receives) as told:
        found += told.read().splitlines()
    os.waitpid(child, 0)
    found += [new_id(1, NOW_MS) for _ in range(600)]
    assert len(found) == 9_200
    assert len({*found}) == len(found)
