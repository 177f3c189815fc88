"""Many jobs in calls that a server can take."""

from __future__ import annotations

import pytest

from fourlane.queues.batches import batches

LARGE = b"x" * 3_000_000


@pytest.mark.parametrize(
    ("bodies", "most", "sizes"),
    [
        ([], 2, []),
        ([b"a"], 2, [1]),
        ([b"a"] * 5, 2, [2, 2, 1]),
        ([b"a", LARGE, LARGE, b"b"], 100, [2, 2]),  # together they would be too large
        ([LARGE * 2, b"a"], 100, [1, 1]),  # one that is too large goes alone, and the server says no
    ],
)
@pytest.mark.parametrize("step", [1, 2, 4])
def test_cut_by_number_and_bytes(bodies: list[bytes], most: int, sizes: list[int], step: int) -> None:
    """The body is the second of what is given for a job, or all of it."""
    flat = [thing for body in bodies for thing in ([body] if step == 1 else ["id", body, *[0] * (step - 2)])]
    cut = list(batches(flat, step, most))
    assert [len(part) // step for part in cut] == sizes
    assert [thing for part in cut for thing in part] == flat
