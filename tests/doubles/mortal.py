"""A process that dies at its n-th call: what it then still tries has no effect outside, as if it were killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, TypeVar

from rekeyd.stores.guarded.operation import Operation
from rekeyd.stores.port import ObjectStream

T = TypeVar("T")

Moment = Literal[
    "before",  # the call was never sent
    "after",  # it took effect, its answer came to nobody
]


class DiedError(BaseException):
    """The process is dead. No `except Exception` outlives that."""


class Life:
    """The life of one process. A guard for stores and controls, and the same for a ledger.

    Once it has ended, every call raises DiedError and reaches nobody: clean-up code may run, and changes nothing.
    """

    def __init__(self, dies_at: int | None = None, moment: Moment = "before") -> None:
        """`dies_at` counts all calls from 1 on; None: it goes on."""
        self._dies_at = dies_at
        self._moment = moment
        self.calls: list[str] = []
        self.dead = False

    def die(self) -> None:
        """End it now, whatever is under way."""
        self.dead = True

    async def live(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call, if there is a life to make it in."""
        self._check()
        self.calls.append(name)
        last = len(self.calls) == self._dies_at
        if last and self._moment == "before":
            self.dead = True
            self._check()
        answer = await call()
        if last:
            self.dead = True
        self._check()
        return answer

    def _check(self) -> None:
        if self.dead:
            raise DiedError(self.calls[-1] if self.calls else "unborn")

    async def run(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        """See Guard."""
        return await self.live(operation.name, call)

    @asynccontextmanager
    async def reading(
        self, opened: AbstractAsyncContextManager[ObjectStream]
    ) -> AsyncGenerator[ObjectStream]:
        """See Guard."""
        stream = await self.live("read", opened.__aenter__)
        try:
            yield stream
        finally:
            await opened.__aexit__(None, None, None)


class MortalLedger:
    """A ledger as this life sees it. `before` and `after` may look at each call, too."""

    def __init__(self, inner: object, life: Life) -> None:
        self._inner = inner
        self._life = life
        self._under_way: set[asyncio.Future[object]] = set()
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        """By a method's name: awaited before the call takes effect."""
        self.after: dict[str, Callable[[Any], Awaitable[None]]] = {}
        """By a method's name: awaited with the answer."""

    def _ended(self, call: asyncio.Future[object]) -> None:
        self._under_way.discard(call)
        if not call.cancelled():
            call.exception()  # nobody may be left to look at it

    async def settle(self) -> None:
        """Wait until no call is under way."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Every method of the port but the audit trail's iterator is a coroutine function."""
        method = getattr(self._inner, name)

        async def play(*arguments: object, **named: object) -> object:
            if name in self.before:
                await self.before[name]()
            # A caller may be cancelled; the call itself ends. SQLAlchemy leaves an aiosqlite connection whose
            # statement was cancelled to the garbage collector, and that warns.
            calling = asyncio.ensure_future(method(*arguments, **named))
            self._under_way.add(calling)
            calling.add_done_callback(self._ended)
            answer = await asyncio.shield(calling)
            if name in self.after:
                await self.after[name](answer)
            return answer

        async def call(*arguments: object, **named: object) -> object:
            return await self._life.live(f"ledger.{name}", lambda: play(*arguments, **named))

        return call
