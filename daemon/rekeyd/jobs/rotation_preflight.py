"""Before a rotation changes anything: is it this one's turn, are bucket and keys as it needs them?"""

from __future__ import annotations

from collections.abc import Sequence

from rekeyd.domain.errors import AccessDeniedError, CustodyError, CustomerKeyError, KeyForbiddenError
from rekeyd.domain.job import UNFINISHED_STATES
from rekeyd.domain.key import key_finding
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.jobs.control import judge_control, read_control
from rekeyd.jobs.drift import is_public
from rekeyd.jobs.endings import Failed, Held, Waiting
from rekeyd.jobs.preflight import TENANT_TAG
from rekeyd.jobs.provision import OTHER_BUCKET, canary_reads
from rekeyd.jobs.run import JobRun
from rekeyd.jobs.watch import check_key
from rekeyd.ledger.port import TenantKey


async def preflight_rotation(
    run: JobRun, record: PlacementRecord, formers: Sequence[TenantKey]
) -> str | Held | Failed | Waiting:
    """Look at what the rotation needs, write nothing; gives the bucket's region."""
    tools, job = run.tools, run.job
    turn = await _others_first(run, record)
    if turn is not None:
        return turn
    try:
        bucket = await tools.target_of(job).buckets.describe(job.target.bucket)
        if bucket is None or bucket.tags.get(TENANT_TAG) != job.tenant:
            return Held("drift", f"{job.target.bucket} is gone, or has lost its tag {TENANT_TAG}")
        if bucket.versioning == "suspended":
            # A version written over there takes the place of the older one whose id is null, for good.
            return Held("drift", f"versioning of {job.target.bucket} is suspended: enable it", by_itself=True)
        if is_public(tools.target_of(job), bucket):
            return Held("drift", f"public access to {job.target.bucket} isn't blocked: block it")
        unusable = await check_key(tools, job, bucket.region) or await _formers_fault(run, formers)
        if unusable is not None:
            return unusable
        if not await canary_reads(tools, job):
            return OTHER_BUCKET
        unknown = await _unknown_control(run)
    except CustomerKeyError as error:
        return Held("drift", str(error))
    except AccessDeniedError as error:
        return Held("access_denied", f"the dedicated bucket refuses us: {error}")
    run.source_versioned = bucket.versioning != "off"
    return bucket.region if unknown is None else unknown


async def _others_first(run: JobRun, record: PlacementRecord) -> Failed | Waiting | None:
    """A migration that still keeps its source relies on the very copies that would be written anew.

    A rotation that was asked for later, and has begun, is what the tenant wants by now.
    """
    tools, job = run.tools, run.job
    jobs = await tools.ledger.jobs(tenant=job.tenant, limit=1000)
    moving = [each.id for each in jobs if each.kind == "migrate" and each.state in UNFINISHED_STATES]
    if moving:
        waits = {"waits_for": moving[0], "why": "its source is kept until then"}
        await tools.ledger.note_result(run.claim, "rotation.waits", waits)
        return Waiting(tools.timings.held_recheck_seconds)
    later = [
        each.id
        for each in jobs
        if each.kind == "rotate"
        and (each.created_at, each.id) > (job.created_at, job.id)
        and each.key_ref == record.key_ref != job.key_ref
    ]
    return Failed(f"{later[0]}, asked for later, has led the tenant to {record.key_ref}") if later else None


async def _formers_fault(run: JobRun, formers: Sequence[TenantKey]) -> Held | None:
    """Why what lies under a former key can't be read; that its alias points at its successor is no fault."""
    for key in formers:
        named = key.placed
        if named is None:
            continue
        try:
            description = await run.tools.custody.describe(named)
        except KeyForbiddenError as error:
            return Held("access_denied", f"let rekeyd describe {key.arn}: {error}")
        except CustodyError as error:
            return Held("custody_unavailable", str(error))
        if description is None:
            return Held("access_denied", f"there is no key {key.arn}, under which data lie")
        finding = key_finding(named, description, None)
        if finding is not None and finding.fault not in ("key_alias_mismatch", "key_missing"):
            return Held("access_denied", f"data lie under the former key: {finding.advice}")
    return None


async def _unknown_control(run: JobRun) -> Held | None:
    """Whether the ledger knows the control object: one that is older than it would lead writers to a key of before."""
    ledger, job = run.tools.ledger, run.job
    found = await read_control(run.tools.target_of(job).objects, job.target.bucket)
    if isinstance(found, Held):
        return found
    for move in await ledger.tenant_moves_of(job.tenant):
        if move.in_place or move.target.bucket != job.target.bucket:
            continue
        known = await ledger.known_control_of(move.move_id)
        if known.written_epoch is None:
            continue  # it never led here: the tenant was moved from elsewhere
        unknown = await judge_control(ledger, move, found.document, known)
        if unknown is not None:
            return unknown
    return None
