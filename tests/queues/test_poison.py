"""When a job that ran as processes died becomes a dead letter, as a table (docs/operating.md, "Silence")."""

from __future__ import annotations

import pytest

from fourlane.queues import browse
from tests.queues.conftest import Hand

LIMIT = 3


def die(
    hand: Hand,
    suspect: str,
    others: int,
    *,
    how: str = "reported",
    elsewhere: int = 0,
    repeated: int = 0,
    alone: bool = False,
    passed: bool = False,
) -> bool:
    """A process dies in which this job runs, beside others that are new, some of another service, and some that were
    beside it each time; perhaps it was the only suspect and on trial, or had passed that and was not blamed. True when
    the job is a dead letter now."""
    new = hand.enqueue(others)
    name = f"w{new}.0"
    jobs = hand.turn(100, name=name).jobs
    entries = [job.entry for job in jobs]
    assert len(entries) == 1 + repeated + others
    if how == "silent":
        hand.link.command("ZADD", hand.store.service("mail").workers, 1, name)
        _, poisoned = hand.store.reclaim("mail", name, "it fell silent")
    else:
        guilty = how == "guilty"
        own = [entry for entry in entries if entry.startswith(suspect)]
        begun = own if guilty else [entry for entry in entries if not (passed and entry in own)]
        ran = len(entries) + elsewhere
        _, poisoned = hand.store.reclaim(
            "mail", name, "it died", begun=begun, ran=ran, alone=alone, passed=own if passed else [], guilty=guilty
        )
    held = [job.entry for job in hand.turn(100, name="good.0").jobs]
    ended = [entry for entry in held if entry.partition("|")[0] in new]
    hand.turn(name="good.0", held=len(held), done=ended)
    hand.store.leave("mail", "good.0")
    return suspect in poisoned


@pytest.mark.parametrize(
    ("how", "others", "elsewhere", "repeated", "alone", "deaths"),
    [
        ("reported", 0, 0, 0, False, LIMIT),  # it ran alone
        ("guilty", 5, 0, 0, False, LIMIT),  # its supervisor killed the process for what it did
        ("reported", 1, 0, 0, True, LIMIT + 2),  # tried alone: a new one beside it may have been the cause
        ("reported", 40, 0, 0, True, LIMIT + 2),
        ("reported", 0, 1, 0, True, LIMIT + 2),  # also one of another service
        ("reported", 40, 0, 0, False, LIMIT + 12),  # it was not on trial
        ("reported", 0, 0, 1, False, LIMIT + 12),  # two that both ran each time: which one is it?
        ("reported", 3, 2, 5, False, LIMIT + 12),
        ("silent", 0, 0, 0, False, 10),  # no proof of anything, but some jobs end whole machines
        ("silent", 3, 0, 2, False, 10),
    ],
)
def test_the_death_that_makes_a_dead_letter(
    hand: Hand, how: str, others: int, elsewhere: int, repeated: int, alone: bool, deaths: int
) -> None:
    assert hand.store.crash_limit == LIMIT
    suspect, *_ = hand.enqueue(1 + repeated)

    def dies() -> bool:
        return die(
            hand,
            suspect,
            others,
            how=how,
            elsewhere=elsewhere,
            repeated=repeated,
            alone=alone,
        )

    assert [dies() for _ in range(deaths)] == [False] * (deaths - 1) + [True]


@pytest.mark.parametrize(("beside", "alone"), [(1, 2), (2, 1), (3, 1), (4, 1)])
def test_crashes_beside_others_count_when_it_then_runs_alone(hand: Hand, beside: int, alone: int) -> None:
    (suspect,) = hand.enqueue()
    assert [die(hand, suspect, 2) for _ in range(beside)] == [False] * beside
    assert [die(hand, suspect, 0) for _ in range(alone)] == [False] * (alone - 1) + [True]


@pytest.mark.parametrize("crashes", [LIMIT - 1, LIMIT + 6])
def test_only_trials_alone_count_beside_others(hand: Hand, crashes: int) -> None:
    """Who crashed often beside other suspects is not taken for guilty by its first trial alone."""
    (suspect,) = hand.enqueue()
    assert not any(die(hand, suspect, 2) for _ in range(crashes))
    assert [die(hand, suspect, 2, alone=True) for _ in range(LIMIT)] == [False] * (LIMIT - 1) + [True]


def test_who_passes_a_trial_begins_anew(hand: Hand) -> None:
    (suspect,) = hand.enqueue()
    assert not any(die(hand, suspect, 2, alone=True) for _ in range(LIMIT + 1))
    assert not die(hand, suspect, 2, passed=True)
    assert [die(hand, suspect, 2, alone=True) for _ in range(LIMIT)] == [False] * (LIMIT - 1) + [True]


def test_a_job_that_is_done_leaves_no_counts(hand: Hand) -> None:
    crashes = hand.store.service("mail").crashes
    (suspect,) = hand.enqueue()
    assert not any(die(hand, suspect, 2, alone=True) for _ in range(LIMIT + 1))
    entry = hand.turn(1).jobs[0].entry
    hand.turn(name="w1", held=1, done=[entry])
    assert hand.store.connector.command(crashes, "HLEN", crashes) == 0


def test_silences_and_deaths_are_not_added_up(hand: Hand) -> None:
    (suspect,) = hand.enqueue()
    assert not any(die(hand, suspect, 0, how="silent") for _ in range(9))
    assert [die(hand, suspect, 0) for _ in range(LIMIT)] == [False, False, True]


@pytest.mark.parametrize(("unbegun_ms", "ready"), [(0, 3), (60_000, 1)])
def test_what_had_not_begun_may_wait_behind_what_had(hand: Hand, unbegun_ms: int, ready: int) -> None:
    hand.enqueue(3)
    entries = sorted(job.entry for job in hand.turn(3).jobs)
    assert hand.store.reclaim("mail", "w1", "died", begun=entries[:1], unbegun_ms=unbegun_ms) == (3, [])
    again = hand.turn(10, name="w2").jobs
    assert [job.crashes for job in again] == [1, 0, 0][:ready]
    assert browse.unfinished(hand.store, "mail") == 3
