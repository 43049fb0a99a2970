"""The redirection of a rotation: from its end on, whatever is written lies under the new key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from rekeyd.domain.errors import PreconditionError
from rekeyd.domain.objects import Encryption, parse_time
from rekeyd.jobs.bring import lead_alias
from rekeyd.jobs.bucket_rules import rules_drift, set_rules
from rekeyd.jobs.canaries import key_canary
from rekeyd.jobs.endings import Held
from rekeyd.jobs.own_objects import Ground, write_own
from rekeyd.jobs.provision import prove_default_key
from rekeyd.jobs.run import JobRun
from rekeyd.ledger.port import TenantKey
from rekeyd.stores.port import UnderKey, Upload
from rekeyd.transfer.route import head_or_none

log = structlog.get_logger()

_REDIRECTED_AT = "redirected_at"
_NARROWED_AT = "narrowed_at"


async def redirect(run: JobRun, formers: Sequence[TenantKey]) -> float | Held:
    """Allow both keys, make the new one the default, lead the placement to it, and wait until every writer knows.

    Gives the database's time at which all of them did. Each step is read back; repeating it changes nothing more.
    """
    ledger, job = run.tools.ledger, run.job
    arns = [key.arn for key in formers if key.arn is not None]
    result: dict[str, Any] = dict((await ledger.job(job.id)).result or {})
    if "former_keys" not in result:
        result = {"key": job.key.arn, "former_keys": [key.ref for key in formers]}
        await ledger.note_result(run.claim, "rotation.begun", result)
    if _REDIRECTED_AT not in result:
        held = await _allow(run, arns) or await _write_canaries(run, [*arns, job.key.arn])
        if held is not None:
            return held
    held = await _lead_default(run) or await prove_default_key(run)
    if held is not None:
        return held
    record = await ledger.redirect_key(run.claim)
    await lead_alias(run)
    if _REDIRECTED_AT not in result:
        timings = run.tools.timings
        result[_REDIRECTED_AT] = await _outwait(
            run, timings.placement_ttl_seconds + timings.write_seconds_max
        )
        await ledger.note_result(run.claim, "rotation.redirected", result | {"epoch": record.epoch})
        log.info("redirected", job=job.id, tenant=job.tenant, epoch=record.epoch)
    return float(result[_REDIRECTED_AT])


async def uploads_left(run: JobRun, redirected_at: float) -> int | Held:
    """How many unfinished uploads may still complete under a former key. At none nothing comes under it any more.

    Those that were begun before the redirection are let end first, for which the former keys have to stay allowed.
    Then writers may name the new key alone, and whatever was begun before that took effect counts: until then a
    writer that kept to no record could name a former key, and a listing doesn't tell which key an upload has.
    """
    left = await _begun_before(run, redirected_at)
    if left:
        return left
    narrowed_at = await _narrow(run)
    return narrowed_at if isinstance(narrowed_at, Held) else await _begun_before(run, narrowed_at)


async def _narrow(run: JobRun) -> float | Held:
    """Let writers name the new key alone, see that they may no other, and outwait a write that was let in before.

    Gives the database's time after that. Repeating it, unless somebody has widened the policy since, changes nothing.
    """
    store, job, ledger = run.tools.target_of(run.job), run.job, run.tools.ledger
    result: dict[str, Any] = dict((await ledger.job(job.id)).result or {})
    before = await set_rules(store, job, run.kept)
    if _NARROWED_AT in result and not rules_drift(store, job, before):
        return float(result[_NARROWED_AT])
    drift = rules_drift(store, job, await store.buckets.describe_rules(job.target.bucket))
    if drift:
        return Held("drift", f"{job.target.bucket}: {drift}, although it was set")
    # Policies take effect a moment later ("Amazon S3 data consistency model": bucket configurations, S3 User Guide).
    result[_NARROWED_AT] = await _outwait(run, run.tools.timings.write_seconds_max)
    await ledger.note_result(run.claim, "rotation.narrowed", result)
    return float(result[_NARROWED_AT])


async def _begun_before(run: JobRun, time: float) -> int:
    """How many unfinished uploads may have been begun before then.

    The store says when one was begun, in whole seconds perhaps, so one of the last second before counts as well. One
    of which it doesn't say may always have been.
    """
    uploads = await run.tools.target_of(run.job).objects.list_uploads(run.job.target.bucket, "")
    since = datetime.fromtimestamp(time, tz=UTC)
    return sum(_may_be_former(upload, since) for upload in uploads)


def _may_be_former(upload: Upload, since: datetime) -> bool:
    try:
        return upload.begun_at is None or parse_time(upload.begun_at) < since
    except ValueError:
        return True


async def _allow(run: JobRun, former_arns: Sequence[str]) -> Held | None:
    """Let writers name either key, and see that they may."""
    store, job = run.tools.target_of(run.job), run.job
    await set_rules(store, job, run.kept, former_arns)
    drift = rules_drift(store, job, await store.buckets.describe_rules(job.target.bucket), former_arns)
    return Held("drift", f"{job.target.bucket}: {drift}") if drift else None


async def _write_canaries(run: JobRun, arns: Sequence[str]) -> Held | None:
    """Each key has a canary of its own from now on: by these a revocation is proven, wherever the rotation stands."""
    objects, bucket = run.tools.target_of(run.job).objects, run.job.target.bucket
    for arn in arns:
        name, encryption = key_canary(arn), Encryption("aws:kms", arn)
        head = await head_or_none(objects, bucket, name)
        if head is None or head.encryption != encryption:
            ground = Ground(objects, bucket, UnderKey(arn), run.kept)
            try:
                head = await write_own(
                    ground, name, f"rekeyd canary of {run.job.tenant} under {arn}".encode()
                )
            except PreconditionError:
                head = await objects.head(bucket, name)
        if head.encryption != encryption:
            return Held(
                "drift", f"{bucket}: what is written under {arn} lies under {head.encryption.key or 'none'}"
            )
    return None


async def _lead_default(run: JobRun) -> Held | None:
    """Make the new key the bucket's default, and read that back."""
    buckets, job = run.tools.target_of(run.job).buckets, run.job
    wanted = Encryption("aws:kms", job.key.arn)
    found = await buckets.describe(job.target.bucket)
    if found is not None and (found.default_encryption != wanted or found.bucket_key):
        await buckets.set_default_key(job.target.bucket, job.key.arn, claim=run.kept)
        found = await buckets.describe(job.target.bucket)
    if found is None or found.default_encryption != wanted or found.bucket_key:
        return Held(
            "drift", f"{job.target.bucket}: the default encryption isn't {job.key.arn}, although it was set"
        )
    return None


async def _outwait(run: JobRun, seconds: float) -> float:
    """Wait so long from now, on the database's clock. Gives the time then.

    After the commit of the redirection: every record from before has expired, and the longest write begun under one
    has ended.
    """
    ledger = run.tools.ledger
    now = await ledger.now()
    still_at = now + seconds
    while (now := await ledger.now()) < still_at:  # noqa: ASYNC110 - the clock is the database's
        await asyncio.sleep(still_at - now)
    return now
