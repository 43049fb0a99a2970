"""Outcomes on their way into the ledger: as many in one commit as have come since the last one began."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from rekeyd.ledger.port import SEGMENT_OBJECTS_MAX, ObjectLedger, ObjectOutcome, SegmentClaim


class OutcomeRecorder:
    """Records a segment's outcomes in the background while the next objects are under way.

    A context: leaving it normally waits until all are committed. What goes wrong in the background is raised by the
    next `add`, or on leaving.
    """

    def __init__(self, ledger: ObjectLedger, claim: SegmentClaim) -> None:
        self._ledger = ledger
        self._claim = claim
        self._waiting: list[ObjectOutcome] = []
        self._came = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._record())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "entered before it is left"
        self._closing = True
        self._came.set()
        # Also where the work failed or was cancelled: what is done is worth recording, as long as the claim lasts.
        results = await asyncio.gather(self._task, return_exceptions=True)
        if error is None and isinstance(results[0], BaseException):
            raise results[0]

    def add(self, outcome: ObjectOutcome) -> None:
        """Have the outcome recorded soon."""
        assert self._task is not None, "entered before it is used"
        if self._task.done():
            self._task.result()
        self._waiting.append(outcome)
        self._came.set()

    async def _record(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                await self._came.wait()
                self._came.clear()
            batch, self._waiting = (
                self._waiting[:SEGMENT_OBJECTS_MAX],
                self._waiting[SEGMENT_OBJECTS_MAX:],
            )
            if batch:
                await self._ledger.record_outcomes(self._claim, batch)
