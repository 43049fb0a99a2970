from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from rekeyd.transfer.pace import ByteBudget


@given(st.lists(st.tuples(st.integers(0, 150), st.booleans()), max_size=30))
def test_the_budget_is_never_exceeded_and_never_leaks(requests: list[tuple[int, bool]]) -> None:
    async def scenario() -> None:
        budget = ByteBudget(100)
        most_bytes = 0

        async def use(size_bytes: int) -> None:
            nonlocal most_bytes
            async with budget.hold(size_bytes):
                most_bytes = max(most_bytes, budget.bytes_in_flight)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(use(size_bytes)) for size_bytes, _ in requests]
        await asyncio.sleep(0)
        for task, (_, cancelled) in zip(tasks, requests, strict=True):
            if cancelled:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most_bytes <= 100
        assert budget.bytes_in_flight == 0

    asyncio.run(scenario())


async def test_a_large_request_is_served_before_smaller_ones_that_came_later() -> None:
    budget = ByteBudget(100)
    served: list[str] = []

    async def use(name: str, size_bytes: int) -> None:
        async with budget.hold(size_bytes):
            served.append(name)

    async with budget.hold(60):
        tasks = [asyncio.create_task(use("large", 90)), asyncio.create_task(use("small", 10))]
        await asyncio.sleep(0)
        assert served == []
    await asyncio.gather(*tasks)
    assert served == ["large", "small"]


async def test_more_than_the_whole_budget_counts_as_the_whole() -> None:
    budget = ByteBudget(100)
    async with budget.hold(10_000):
        assert budget.bytes_in_flight == 100
