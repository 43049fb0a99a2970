"""Doing many small things at once, a bounded number at a time, and failing as one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rekeyd.domain.errors import RekeydError

T = TypeVar("T")
R = TypeVar("R")


async def side_by_side(items: Iterable[T], do: Callable[[T], Awaitable[R]], *, at_once_max: int) -> list[R]:
    """The results of `do` for all items, in their order, at most `at_once_max` at a time.

    The first error ends the others, waits until they have ended, and is raised as it is, not in a group. Where several
    come together, one that isn't ours (a broken invariant) goes before one that is. However many items there are,
    only `at_once_max` tasks exist.
    """
    results: dict[int, R] = {}
    turns: Iterator[tuple[int, T]] = enumerate(items)

    async def work() -> None:
        for index, item in turns:
            results[index] = await do(item)

    tasks = [asyncio.create_task(work()) for _ in range(at_once_max)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        # Also where we are cancelled ourselves; a cancellation amid this is heard, whatever failed before it.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
    if errors:
        raise _gravest(errors)
    return [results[index] for index in range(len(results))]


def _gravest(errors: Sequence[BaseException]) -> BaseException:
    return next((error for error in errors if not isinstance(error, RekeydError)), errors[0])
