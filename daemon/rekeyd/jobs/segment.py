"""A segment being worked on: carried, swept or retired, object by object, as its stage says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from typing import assert_never

import structlog

from rekeyd.domain.errors import AccessDeniedError, DriftError, StoreError, UnavailableError
from rekeyd.domain.objects import NULL_VERSION, ObjectVersion
from rekeyd.jobs.claims import KeptClaim
from rekeyd.jobs.outage import Outage
from rekeyd.jobs.provision import canary_reads
from rekeyd.jobs.recorder import OutcomeRecorder
from rekeyd.jobs.tools import Tools
from rekeyd.ledger.port import ObjectOutcome, ObjectRow, SegmentClaim
from rekeyd.stores.buckets import BucketDescription
from rekeyd.stores.port import LIST_OBJECTS_MAX, DeleteOutcome
from rekeyd.transfer.attempt import CONFLICT, NEEDS_RESTORE, PASSING, UNMOVABLE
from rekeyd.transfer.carry import carry
from rekeyd.transfer.rekey import Rekeying, forget, rekey
from rekeyd.transfer.retire import (
    drop_copy,
    gone_already,
    hide_current,
    locked_rows,
    retire_batch,
    standing_copies,
)
from rekeyd.transfer.route import Route
from rekeyd.transfer.side_by_side import side_by_side

log = structlog.get_logger()

_RETIRED_AT_ONCE_MAX = 100
"""So many sources are deleted on the strength of one look at their copies."""


class SegmentWork:
    """The work on one claimed segment."""

    def __init__(
        self,
        claim: SegmentClaim,
        kept: KeptClaim,
        route: Route,
        tools: Tools,
        stopping: asyncio.Event,
        outage: Outage,
    ) -> None:
        self._claim = claim
        self._kept = kept
        self._route = route
        self._tools = tools
        self._stopping = stopping
        self._outage = outage
        self._rekeying = Rekeying(route, tools.means, kept)

    async def do(self) -> None:
        """Work on every object that isn't done, then end the segment, or give it back where we are stopping.

        Neither before every call that got no answer has passed its deadline.

        Raises what concerns all objects: KeyUnusableError, AccessDeniedError, ClaimLostError, LedgerError, and
        UnavailableError where a store no longer answers for any of them.
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
        given_up: list[ObjectOutcome] = []
        async with OutcomeRecorder(self._tools.ledger, self._claim) as recorder:

            async def carry_one(row: ObjectRow) -> None:
                async with self._tools.objects_in_flight:
                    outcome = await self._carry_one(row)
                self._count_carried(outcome)
                passing = outcome.reason.startswith(PASSING)
                if passing and outcome.state == "failed":
                    given_up.append(outcome)
                else:
                    recorder.add(outcome)
                self._outage.note(outcome.reason if passing else None)

            await self._side_by_side(rows, carry_one)
            # No object is given up for what turns out to be an outage: then this isn't reached.
            for outcome in given_up:
                recorder.add(outcome)

    async def _carry_one(self, row: ObjectRow) -> ObjectOutcome:
        if self._claim.job.in_place:
            return await rekey(row, self._rekeying)
        return await carry(row, self._route, self._tools.means, self._kept)

    async def _sweep_one(self, row: ObjectRow) -> ObjectOutcome:
        if self._claim.job.in_place:
            return forget(row)
        return await drop_copy(self._route, row, self._kept)

    async def _sweep(self, rows: Sequence[ObjectRow]) -> None:
        async with OutcomeRecorder(self._tools.ledger, self._claim) as recorder:

            async def sweep_one(row: ObjectRow) -> None:
                async with self._tools.objects_in_flight:
                    outcome = await self._sweep_one(row)
                if outcome.state == "stale":
                    log.warning("object_not_listed", job=self._claim.job.id, key=row.source.key)
                recorder.add(outcome)

            await self._side_by_side(rows, sweep_one)

    async def _retire(self, rows: Sequence[ObjectRow]) -> None:
        """Delete what still has its verified copies, some rows at a time: what was checked is deleted soon after."""
        if not rows:
            return
        source = await self._tools.source_of(self._claim.job).buckets.describe(self._claim.job.source.bucket)
        if source is None:
            raise DriftError("the source's bucket is gone")
        _check_ids_pin(source, rows)
        for first in range(0, len(rows), _RETIRED_AT_ONCE_MAX):
            if self._stopping.is_set():
                return
            await self._retire_some(rows[first : first + _RETIRED_AT_ONCE_MAX], locks=source.object_lock)

    async def _retire_some(self, rows: Sequence[ObjectRow], *, locks: bool) -> None:
        """The canary is read and the copies are looked at just now; intents go first, outcomes come after."""
        if not await canary_reads(self._tools, self._claim.job):
            raise DriftError("the canary in the target is gone, or isn't the tenant's")
        ledger, at_once_max = self._tools.ledger, self._at_once_max(rows)
        standing = await standing_copies(self._route, rows, at_once_max)
        resumed = [row for row in rows if row.state == "retiring" and row.source.key not in standing]
        gone = await gone_already(self._route, resumed, at_once_max)
        locked = await locked_rows(self._route, rows, self._tools.means, at_once_max) if locks else {}
        settled = [_settled(row, standing, gone, locked) for row in rows]
        await self._record_retired([outcome for outcome in settled if outcome is not None])
        wanted = [row.source for row, outcome in zip(rows, settled, strict=True) if outcome is None]
        intended = await ledger.record_intents(self._claim, wanted)
        if self._claim.job.versions == "current":
            for version in intended:
                if version.version_id is not None:
                    await hide_current(self._route, version, self._kept)
        for batch in _batches(intended):
            outcomes, failed = await retire_batch(self._route, batch, self._kept)
            await self._record_retired(outcomes)
            if failed:
                raise _not_deleted(failed)

    async def _record_retired(self, outcomes: Sequence[ObjectOutcome]) -> None:
        if outcomes:
            await self._tools.ledger.record_outcomes(self._claim, outcomes)
        deleted = [outcome.source for outcome in outcomes if outcome.state == "deleted"]
        size_bytes = sum(version.history_bytes for version in deleted)
        self._tools.metrics.count_objects("deleted", len(deleted), size_bytes)

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
            metrics.count_objects("copied", 1, outcome.source.history_bytes)
        if outcome.state == "verified":
            metrics.count_objects("verified", 1, outcome.source.history_bytes)
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
    known = {CONFLICT: CONFLICT, NEEDS_RESTORE: "needs_restore", UNMOVABLE: UNMOVABLE}
    kinds = [kind for beginning, kind in known.items() if outcome.reason.startswith(beginning)]
    return kinds[0] if kinds else outcome.verdict or "error"


def _not_deleted(failed: Sequence[DeleteOutcome]) -> StoreError:
    detail = f"{len(failed)} source objects, {failed[0].version.key!r} for one: {failed[0].detail}"
    if "AccessDenied" in failed[0].detail:
        return AccessDeniedError("delete", detail)
    return UnavailableError("delete", detail)


def _settled(
    row: ObjectRow, standing: Container[str], gone: Container[str], locked: Mapping[str, str]
) -> ObjectOutcome | None:
    """What is to be recorded of a row whose source isn't to be deleted now; None where it is."""
    key = row.source.key
    if key in gone:
        return ObjectOutcome(row.source, "deleted")
    if key not in standing:
        reason = "its copy in the target has been replaced or deleted since it was verified"
        return ObjectOutcome(row.source, "remaining", reason)
    return ObjectOutcome(row.source, "remaining", locked[key]) if key in locked else None


def _check_ids_pin(source: BucketDescription, rows: Sequence[ObjectRow]) -> None:
    """Raises DriftError where a delete would mean another version than the one that was verified, or only hide it."""
    versions = [version for row in rows for version in row.source.chain]
    unpinned = any(version.version_id == NULL_VERSION for version in versions)
    if source.versioning == "suspended" and unpinned:
        raise DriftError(
            "versioning of the source was suspended: what has the id null may be replaced at any time"
        )
    if source.versioning != "off" and any(version.version_id is None for version in versions):
        raise DriftError("the source keeps versions by now: a delete would only hide what is to be deleted")


def _batches(sources: Sequence[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
    """Sources in turn, as many as one call may delete versions, and at least one."""
    batch: list[ObjectVersion] = []
    versions = 0
    for source in sources:
        if batch and versions + len(source.chain) > LIST_OBJECTS_MAX:
            yield batch
            batch, versions = [], 0
        batch.append(source)
        versions += len(source.chain)
    if batch:
        yield batch
