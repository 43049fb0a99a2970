"""A segment being worked on: carried, swept or retired, object by object, as its stage says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import assert_never

import structlog

from rekeyd.domain.errors import AccessDeniedError, DriftError, StoreError, UnavailableError
from rekeyd.jobs.claims import KeptClaim
from rekeyd.jobs.provision import canary_reads
from rekeyd.jobs.recorder import OutcomeRecorder
from rekeyd.jobs.tools import Tools
from rekeyd.ledger.port import ObjectOutcome, ObjectRow, SegmentClaim
from rekeyd.stores.port import DeleteOutcome
from rekeyd.transfer.carry import CONFLICT, carry
from rekeyd.transfer.retire import drop_copy, retire_batch, standing_copies
from rekeyd.transfer.route import Route
from rekeyd.transfer.side_by_side import side_by_side

log = structlog.get_logger()


class SegmentWork:
    """The work on one claimed segment."""

    def __init__(
        self, claim: SegmentClaim, kept: KeptClaim, route: Route, tools: Tools, stopping: asyncio.Event
    ) -> None:
        self._claim = claim
        self._kept = kept
        self._route = route
        self._tools = tools
        self._stopping = stopping

    async def do(self) -> None:
        """Work on every object that isn't done, then end the segment, or give it back where we are stopping.

        Neither before every call that got no answer has passed its deadline.

        Raises what concerns all objects: KeyUnusableError, AccessDeniedError, ClaimLostError, LedgerError.
        """
        rows = await self._tools.ledger.segment_rows(self._claim)
        match self._claim.stage:
            case "carry":
                await self._carry(rows)
            case "sweep":
                await self._sweep(rows)
            case "retire":
                await self._retire(rows)
            case never:
                assert_never(never)
        if not self._stopping.is_set():
            await self._kept.settle()
            await self._tools.ledger.finish_segment(self._claim)
        elif self._kept.is_settled():
            await self._tools.ledger.release_segment(self._claim)

    def _unless_stopping(self, rows: Sequence[ObjectRow]) -> Iterator[ObjectRow]:
        for row in rows:
            if self._stopping.is_set():
                return
            yield row

    async def _carry(self, rows: Sequence[ObjectRow]) -> None:
        async with OutcomeRecorder(self._tools.ledger, self._claim) as recorder:

            async def carry_one(row: ObjectRow) -> None:
                async with self._tools.objects_in_flight:
                    outcome = await carry(row, self._route, self._tools.means, self._kept)
                self._count_carried(outcome)
                recorder.add(outcome)

            await self._side_by_side(rows, carry_one)

    async def _sweep(self, rows: Sequence[ObjectRow]) -> None:
        async with OutcomeRecorder(self._tools.ledger, self._claim) as recorder:

            async def sweep_one(row: ObjectRow) -> None:
                async with self._tools.objects_in_flight:
                    outcome = await drop_copy(self._route, row, self._kept)
                if outcome.state == "stale":
                    log.warning("object_not_listed", job=self._claim.job.id, key=row.source.key)
                recorder.add(outcome)

            await self._side_by_side(rows, sweep_one)

    async def _retire(self, rows: Sequence[ObjectRow]) -> None:
        """Delete what still has its verified copy, the canary having been read just now; intents go first."""
        if not rows or self._stopping.is_set():
            return
        if not await canary_reads(self._tools, self._claim.job):
            raise DriftError("the canary in the target is gone, or isn't the tenant's")
        ledger = self._tools.ledger
        standing = await standing_copies(self._route, rows, self._at_once_max(rows))
        replaced = [_replaced(row) for row in rows if row.source.key not in standing]
        if replaced:
            await ledger.record_outcomes(self._claim, replaced)
        wanted = [row.source for row in rows if row.source.key in standing]
        intended = await ledger.record_intents(self._claim, wanted)
        outcomes, failed = await retire_batch(self._route, intended, self._kept)
        await ledger.record_outcomes(self._claim, outcomes)
        deleted = [outcome.source for outcome in outcomes if outcome.state == "deleted"]
        self._tools.metrics.count_objects("deleted", len(deleted), sum(each.size_bytes for each in deleted))
        if failed:
            raise _not_deleted(failed)

    async def _side_by_side(
        self, rows: Sequence[ObjectRow], do: Callable[[ObjectRow], Awaitable[None]]
    ) -> None:
        await side_by_side(self._unless_stopping(rows), do, at_once_max=self._at_once_max(rows))

    def _at_once_max(self, rows: Sequence[ObjectRow]) -> int:
        return min(self._tools.objects_in_flight_max, max(len(rows), 1))

    def _count_carried(self, outcome: ObjectOutcome) -> None:
        metrics = self._tools.metrics
        if outcome.verdict is not None:
            metrics.count_verdict(outcome.verdict)
        if outcome.target is not None and outcome.verdict is not None:
            metrics.count_objects("copied", 1, outcome.source.size_bytes)
        if outcome.state == "verified":
            metrics.count_objects("verified", 1, outcome.source.size_bytes)
        else:
            metrics.count_failure(_failure(outcome))
            log.info(
                "object_not_verified",
                job=self._claim.job.id,
                key=outcome.source.key,
                state=outcome.state,
                reason=outcome.reason,
            )


def _failure(outcome: ObjectOutcome) -> str:
    """The kind of failure, from a small closed set: it is a metric's label."""
    if outcome.state == "stale":
        return "source_changed"
    if outcome.reason.startswith(CONFLICT):
        return CONFLICT
    return outcome.verdict or "error"


def _not_deleted(failed: Sequence[DeleteOutcome]) -> StoreError:
    detail = f"{len(failed)} source objects, {failed[0].version.key!r} for one: {failed[0].detail}"
    if "AccessDenied" in failed[0].detail:
        return AccessDeniedError("delete", detail)
    return UnavailableError("delete", detail)


def _replaced(row: ObjectRow) -> ObjectOutcome:
    reason = "its copy in the target has been replaced or deleted since it was verified"
    return ObjectOutcome(row.source, "remaining", reason)
