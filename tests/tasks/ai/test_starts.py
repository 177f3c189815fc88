"""Calls that begin together begin one after the other."""

from __future__ import annotations

import asyncio

from fourlane.tasks.ai.paid.starts import in_turn


def test_one_begins_in_each_round_of_the_event_loop() -> None:
    rounds = 0
    began: list[tuple[int, int]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def count() -> None:
            nonlocal rounds
            rounds += 1
            loop.call_soon(count)

        async def begin(number: int) -> None:
            await in_turn()
            began.append((number, rounds))

        count()
        tasks = [asyncio.ensure_future(begin(number)) for number in range(6)]
        await asyncio.sleep(0)
        tasks[2].cancel()  # its turn goes to the next
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        before = rounds
        await in_turn()  # alone: at once
        assert rounds == before

    asyncio.run(main())
    assert [number for number, _ in began] == [0, 1, 3, 4, 5]
    assert len({at for _, at in began}) == len(began)


def test_each_event_loop_has_its_own() -> None:
    for _ in range(2):
        asyncio.run(in_turn())
