from __future__ import annotations

import asyncio

import pytest

from rekeyd.transfer.side_by_side import side_by_side


async def test_results_come_in_order_and_no_more_than_allowed_run_at_once() -> None:
    running, most = 0, 0

    async def do(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - item):
            await asyncio.sleep(0)
        running -= 1
        return item * item

    assert await side_by_side(range(10), do, at_once_max=3) == [item * item for item in range(10)]
    assert most == 3


async def test_the_first_error_is_raised_as_it_is_and_the_others_have_ended() -> None:
    ended: list[int] = []

    async def do(item: int) -> None:
        try:
            if item == 1:
                raise LookupError("second")
            await asyncio.Event().wait()
        finally:
            ended.append(item)

    with pytest.raises(LookupError, match="second"):
        await side_by_side(range(100), do, at_once_max=4)
    assert sorted(ended) == [0, 1, 2, 3]


async def test_an_error_that_came_first_does_not_hide_that_we_are_cancelled() -> None:
    failing = asyncio.Event()

    async def do(item: int) -> None:
        if item == 0:
            failing.set()
            raise LookupError("first")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)

    whole = asyncio.create_task(side_by_side(range(4), do, at_once_max=4))
    await failing.wait()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
