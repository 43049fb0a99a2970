"""Group commits: writes that come at the same time share one transaction and one fsync.

A fsync costs milliseconds and a small write microseconds, so the writer takes whatever has gathered while
the last commit was under way. Each unit runs within a SAVEPOINT: one that is refused undoes itself alone.
Nobody learns a result before the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from rekeyd.domain.errors import LedgerError

UNITS_WAITING_MAX = 256
"""So many writes wait or are under way; further callers wait until there is room."""
UNITS_COMMITTED_MAX = 32
"""So many share a transaction: what bounds how long one of them waits for the others."""

T = TypeVar("T")
CommitObserver = Callable[[float, int], None]
"""Told how many seconds a commit took, from BEGIN on, and how many units it had."""


@dataclass(frozen=True, slots=True)
class _Unit:
    work: Callable[[Connection], Any]
    result: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Done:
    value: Any = None
    error: Exception | None = None


class GroupCommits:
    """The one writer of this process."""

    def __init__(self, engine: AsyncEngine, observe: CommitObserver | None) -> None:
        self._engine = engine
        self._observe = observe
        self._room = asyncio.Semaphore(UNITS_WAITING_MAX)
        self._waiting: deque[_Unit] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._writer = asyncio.create_task(self._write(), name="ledger-writer")

    async def submit(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; gives its result, or raises its error, once that is committed.

        Raises LedgerError where the commit failed: then nothing of it holds. A caller that is cancelled before its
        unit was begun leaves nothing; later, the unit is committed without it.
        """
        async with self._room:
            if self._closed:
                raise LedgerError("the ledger is closed")
            result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._waiting.append(_Unit(work, result))
            self._wake.set()
            return await result

    async def close(self) -> None:
        """Commit what waits, and stop."""
        self._closed = True
        self._wake.set()
        await self._writer

    async def _write(self) -> None:
        while not (self._closed and not self._waiting):
            await self._wake.wait()
            self._wake.clear()
            while batch := self._next_batch():
                await self._commit(batch)

    def _next_batch(self) -> Sequence[_Unit]:
        batch: list[_Unit] = []
        while self._waiting and len(batch) < UNITS_COMMITTED_MAX:
            unit = self._waiting.popleft()
            if not unit.result.done():  # its caller was cancelled
                batch.append(unit)
        return batch

    async def _commit(self, batch: Sequence[_Unit]) -> None:
        began = time.perf_counter()
        try:
            async with self._engine.begin() as connection:
                done = await connection.run_sync(_run, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' to know and the writer goes on
            done = [_Done(error=_unreachable(error)) for _ in batch]
        if self._observe is not None:
            self._observe(time.perf_counter() - began, len(batch))
        for unit, outcome in zip(batch, done, strict=True):
            _deliver(unit.result, outcome)


def _run(connection: Connection, batch: Sequence[_Unit]) -> list[_Done]:
    done = []
    for unit in batch:
        savepoint = connection.begin_nested()
        try:
            outcome = _Done(unit.work(connection))
        except (OperationalError, InternalError):
            # SQLite may have rolled back the whole transaction (sqlite.org/lang_transaction.html, "Response To
            # Errors Within A Transaction"): nothing of the batch can be trusted.
            raise
        except DBAPIError as error:
            savepoint.rollback()
            outcome = _Done(error=_unreachable(error))
        except Exception as error:  # noqa: BLE001 - raised again where the unit came from
            savepoint.rollback()
            outcome = _Done(error=error)
        else:
            savepoint.commit()
        done.append(outcome)
    return done


def _deliver(result: asyncio.Future[Any], outcome: _Done) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # its caller was cancelled meanwhile
        if outcome.error is not None:
            result.set_exception(outcome.error)
        else:
            result.set_result(outcome.value)


def _unreachable(error: Exception) -> LedgerError:
    reason = error.orig if isinstance(error, DBAPIError) else error
    failure = LedgerError(f"the ledger could not commit: {reason}")
    failure.__cause__ = error
    return failure
