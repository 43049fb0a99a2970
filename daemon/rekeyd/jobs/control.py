"""The control object in the target: examined before an attempt changes anything, written before a change holds."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from rekeyd.domain.control import (
    CONTROL_BYTES_MAX,
    CONTROL_KEY,
    ControlDocument,
    KnownControl,
    control_fault,
)
from rekeyd.domain.errors import PreconditionError, StoreError
from rekeyd.domain.objects import Attributes
from rekeyd.jobs.endings import Held
from rekeyd.jobs.run import JobRun
from rekeyd.ledger.port import Ledger, TenantMove
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import IfAbsent, IfMatches, ObjectStore, UnderKey, WriteCondition
from rekeyd.transfer.checksum import crc64nvme
from rekeyd.transfer.route import head_or_none

log = structlog.get_logger()

_ADVICE = (
    "this ledger is older than the target (restored from a backup, or a replica that lags?): stop every daemon on it, "
    "bring back the ledger that knows this, then resume the job. Nothing was written or deleted, and the tenant's "
    "placement isn't served from here"
)


@dataclass(frozen=True, slots=True)
class FoundControl:
    """What stands under the control object's key."""

    document: ControlDocument | None
    """None where nothing does."""
    condition: WriteCondition
    """What a write over exactly this has as its condition."""


async def examine_control(run: JobRun) -> Held | None:
    """Whether the ledger knows the control object in the job's target; why the job is held, where it doesn't.

    Nothing is written to the target. A ledger that is older than it no longer serves the tenant's placement; one that
    knows it does so again.
    """
    found = await _read(run)
    if isinstance(found, Held):
        return found
    held = await _run_fault(run, found.document)
    ledger = run.tools.ledger
    if held is None:
        await ledger.trust_placement(run.claim)
    elif held.reason == "ledger_behind":
        log.error("ledger_behind", job=run.job.id, tenant=run.job.tenant, detail=held.error)
        await ledger.distrust_placement(run.claim, held.error)
    return held


async def write_control(run: JobRun, document: ControlDocument) -> Held | None:
    """Have the control object say this; None once it was seen to, or why it can't be.

    It is written over exactly what was just read and known, under the job's claim. A lost answer, and a refusal
    that may be due to a call of our own, is settled by reading once that call's deadline has passed: an equal
    content is ours. Raises StoreError where the target holds neither, and nobody knows why.
    """
    found = await _read(run)
    if isinstance(found, Held):
        return found
    if found.document == document:
        return None
    held = await _run_fault(run, found.document)
    if held is not None:
        return held
    try:
        await _put(run, document, found.condition)
    except StoreError as error:
        if not (error.outcome_unknown or error.after_unknown or isinstance(error, PreconditionError)):
            raise
        await run.kept.settle()
        settled = await _read(run)
        if isinstance(settled, Held):
            return settled
        if settled.document == document:
            return None
        held = await _run_fault(run, settled.document)
        if held is not None:
            return held
        raise
    return None


async def read_control(objects: ObjectStore, bucket: str) -> FoundControl | Held:
    """What stands under the control object's key in a bucket; why a job is held, where that is no control object.

    Raises StoreError where it can't be read.
    """
    head = await head_or_none(objects, bucket, CONTROL_KEY)
    if head is None:
        return FoundControl(None, IfAbsent())
    if head.version.size_bytes > CONTROL_BYTES_MAX:
        return _drift(bucket, f"is {head.version.size_bytes} bytes long, and no control object of rekeyd's")
    async with objects.read(bucket, head.version) as stream:
        content = b"".join([chunk async for chunk in stream.chunks()])
    try:
        document = ControlDocument.parse(content)
    except ValueError as error:
        return _drift(bucket, str(error))
    return FoundControl(document, IfMatches(head.version.etag))


async def judge_control(
    ledger: Ledger, move: TenantMove, document: ControlDocument | None, known: KnownControl
) -> Held | None:
    """Why a job of this move is held for what its control object says, or for its absence."""
    bucket = move.target.bucket
    fault = control_fault(document, known, move.tenant, move.source, move.target)
    if fault == "missing":
        return _drift(bucket, f"is gone, which said the epoch {known.written_epoch}: find out who deleted it")
    if document is None:
        return None
    if fault == "foreign":
        whose = f"{document.tenant}, from {document.source} to {document.target}"
        return _drift(bucket, f"is another move's: {whose}")
    if fault == "unknown":
        return _behind(bucket, f"says the epoch {document.epoch}, of which this ledger knows nothing")
    if not await ledger.knows_heads(document.audit_heads):
        return _behind(bucket, "names audit records that this ledger doesn't have")
    return None


async def _read(run: JobRun) -> FoundControl | Held:
    return await read_control(run.tools.target_of(run.job).objects, run.job.target.bucket)


async def _run_fault(run: JobRun, document: ControlDocument | None) -> Held | None:
    job, ledger = run.job, run.tools.ledger
    known = await ledger.known_control(run.claim)
    return await judge_control(
        ledger, TenantMove(job.move_id, job.tenant, job.source, job.target), document, known
    )


async def _put(run: JobRun, document: ControlDocument, condition: WriteCondition) -> None:
    data = document.text().encode()
    await run.tools.target_of(run.job).objects.put(
        run.job.target.bucket,
        CONTROL_KEY,
        BytesContent(data),
        Attributes({"content-type": "application/json"}),
        condition=condition,
        under=UnderKey(run.job.key.arn),
        crc64nvme=crc64nvme(data),
        claim=run.kept,
    )


def _drift(bucket: str, what: str) -> Held:
    return Held("drift", f"{bucket}: {CONTROL_KEY} {what}", by_itself=False)


def _behind(bucket: str, what: str) -> Held:
    return Held("ledger_behind", f"{bucket}: {CONTROL_KEY} {what}: {_ADVICE}", by_itself=False)
