"""What the ledger's tests have happen before their own story begins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rekeyd.domain.job import Job, ReceivedJob, read_job_message
from rekeyd.domain.objects import Location, ObjectVersion
from rekeyd.domain.tenant import PlacementRecord, dedicate, pause
from rekeyd.ledger.port import (
    Admission,
    JobClaim,
    Ledger,
    ObjectOutcome,
    ObjectRow,
    PassState,
    SegmentClaim,
)
from tests.patience import HANG_SECONDS

LONG = 60.0
SHORT = 0.2
TTL = 10.0
LEASE = 1.5
"""Long enough to find it still there, short enough to wait until it isn't."""
KEY = "arn:aws:kms:us-east-1:111122223333:key/"
ALIAS = "arn:aws:kms:us-east-1:111122223333:alias/"


def message(
    job_id: str = "job-1", tenant: str = "acme", key: str | None = None, **fields: object
) -> ReceivedJob:
    name = key or tenant
    body = {
        "schema": "rekeyd.job/1",
        "id": job_id,
        "kind": "migrate",
        "tenant": tenant,
        "source": str(source_of(tenant)),
        "key": {"kind": "kms", "arn": KEY + name, "alias": ALIAS + name},
    }
    return read_job_message(json.dumps(body | fields).encode())


def source_of(tenant: str) -> Location:
    return Location.parse(f"s3://shared/tenants/{tenant}/")


def target_of(tenant: str) -> Location:
    return Location.parse(f"s3://byok-{tenant}/")


async def admit(
    ledger: Ledger,
    job_id: str = "job-1",
    tenant: str = "acme",
    *,
    source: str | None = None,
    target: str | None = None,
    **fields: Any,  # noqa: ANN401 - whatever a message may hold
) -> Admission:
    return await ledger.admit(
        message(job_id, tenant, **fields),
        Location.parse(source) if source else source_of(tenant),
        Location.parse(target) if target else target_of(tenant),
        3600,
        "upstream",
    )


async def claimed(ledger: Ledger, lease_seconds: float = LONG, holder: str = "daemon-1") -> JobClaim:
    claim = await ledger.claim_job(holder, lease_seconds)
    assert claim is not None
    return claim


async def running(ledger: Ledger, job_id: str = "job-1", tenant: str = "acme") -> JobClaim:
    """A job of the tenant, admitted and claimed."""
    await admit(ledger, job_id, tenant)
    return await claimed(ledger)


async def segment(ledger: Ledger, lease_seconds: float = LONG, holder: str = "worker-1") -> SegmentClaim:
    claim = await ledger.claim_segment(holder, lease_seconds)
    assert claim is not None
    return claim


def version(
    name: str, etag: str = "v1", size_bytes: int = 10, version_id: str | None = None
) -> ObjectVersion:
    return ObjectVersion(f"tenants/acme/{name}", size_bytes, etag, version_id)


def versions(count: int, etag: str = "v1", size_bytes: int = 10) -> list[ObjectVersion]:
    return [version(f"{number:05d}", etag, size_bytes) for number in range(count)]


def copy_of(source: ObjectVersion) -> ObjectVersion:
    return ObjectVersion(
        source.key.removeprefix("tenants/acme/"), source.size_bytes, f"copy-of-{source.etag}"
    )


def verified(source: ObjectVersion) -> ObjectOutcome:
    return ObjectOutcome(
        source,
        "verified",
        verdict="verified",
        target=copy_of(source),
        crc64nvme=(1 << 64) - 1 - len(source.key),
        evidence="streamed/read",
    )


async def list_all(
    ledger: Ledger, claim: JobClaim, objects: Sequence[ObjectVersion], pause_epoch: int | None = None
) -> PassState:
    """A new pass of a single page."""
    begun = await ledger.begin_pass(claim, pause_epoch)
    return await settled(ledger, claim, await ledger.record_page(claim, begun.number, objects, None, None))


async def settled(ledger: Ledger, claim: JobClaim, state: PassState) -> PassState:
    """The pass once all that its complete listing misses is settled."""
    while state.settling:
        state = await ledger.settle_missing(claim, state.number)
    return state


async def work(
    ledger: Ledger, outcome: Callable[[ObjectRow], ObjectOutcome | None], stage: str | None = None
) -> list[ObjectRow]:
    """Work on all segments until none is open; gives the rows in the order in which they came."""
    seen: list[ObjectRow] = []
    while (claim := await ledger.claim_segment("worker-1", LONG)) is not None:
        assert stage in (None, claim.stage)
        rows = await ledger.segment_rows(claim)
        outcomes = [made for row in rows if (made := outcome(row)) is not None]
        await ledger.record_outcomes(claim, outcomes)
        await ledger.finish_segment(claim)
        seen += rows
    return seen


async def carry(ledger: Ledger) -> list[ObjectRow]:
    """Verify everything listed, drop the copies of all that vanished."""
    return await work(
        ledger,
        lambda row: ObjectOutcome(row.source, "dropped") if row.state == "vanished" else verified(row.source),
    )


def pausing(seconds: float = LONG) -> Callable[[PlacementRecord, float], PlacementRecord]:
    return lambda record, now: pause(record, now, seconds)


async def begin_pause(ledger: Ledger, claim: JobClaim, seconds: float = LONG) -> PlacementRecord:
    """A pause, proposed and begun."""
    await ledger.propose_pause(claim)
    return await ledger.change_placement(claim, pausing(seconds))


def dedicating(pause_epoch: int) -> Callable[[PlacementRecord, float], PlacementRecord]:
    return lambda record, now: dedicate(record, now, pause_epoch)


async def dedicated(ledger: Ledger, objects: Sequence[ObjectVersion]) -> JobClaim:
    """A job whose tenant is dedicated, with these objects verified."""
    claim = await running(ledger)
    paused = await begin_pause(ledger, claim)
    await list_all(ledger, claim, objects, paused.epoch)
    await carry(ledger)
    await ledger.switch(claim, dedicating(paused.epoch))
    await ledger.open_writes(claim, TTL)
    return claim


async def until(condition: Callable[[], Awaitable[bool]], seconds_max: float = HANG_SECONDS) -> None:
    """Wait for what time brings about: never longer than it takes."""
    async with asyncio.timeout(seconds_max):
        while not await condition():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)


async def actions(ledger: Ledger) -> list[str]:
    """The audit trail's actions, in order."""
    return [body["action"] for body in await bodies(ledger)]


async def bodies(ledger: Ledger) -> list[dict[str, Any]]:
    return [json.loads(record.body) async for record in ledger.audit_records("main")]


async def row_of(ledger: Ledger, name: str) -> ObjectRow:
    """The row of a key that waits in an open segment, which is given back."""
    claim = await segment(ledger)
    rows = {row.source.key: row for row in await ledger.segment_rows(claim)}
    await ledger.release_segment(claim)
    return rows[f"tenants/acme/{name}"]


def ids(found: Sequence[Job]) -> list[str]:
    return [job.id for job in found]
