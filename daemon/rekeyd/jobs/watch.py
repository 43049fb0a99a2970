"""The watch over a running job's key: looked at before the job begins, and again and again while it works."""

from __future__ import annotations

import asyncio

import structlog

from rekeyd.domain.errors import CustodyError, KeyForbiddenError
from rekeyd.domain.job import Job
from rekeyd.domain.key import KeyDescription, KeyFinding, KmsKey, key_finding
from rekeyd.jobs.endings import Held
from rekeyd.jobs.following import alias_finding
from rekeyd.jobs.tools import Tools

log = structlog.get_logger()

_SILENT_CHECKS_MAX = 3
"""So many checks in a row without an answer, and the key counts as out of reach."""


async def check_key(tools: Tools, job: Job, bucket_region: str | None) -> Held | None:
    """Whether the job's key will do for a bucket in `bucket_region`, by the key service's own word just now.

    Without a region, as long as it isn't known, regions aren't compared. A key that is still to be imported is no
    fault.
    """
    key = job.named_key.placed
    if key is None:
        return None
    try:
        description = await tools.custody.describe(key)
    except KeyForbiddenError as error:
        return _refused(tools, Held("key_access_denied", f"let rekeyd describe {key.arn}: {error}"))
    except CustodyError as error:
        return _refused(tools, Held("custody_unavailable", str(error)))
    if description is None:
        return _refused(tools, Held("key_missing", f"there is no key {key.arn}"))
    finding = key_finding(key, description, bucket_region)
    if finding is not None and finding.fault == "key_alias_mismatch":
        try:
            finding = await _unless_followed(tools, job, description, finding)
        except CustodyError as error:
            return _refused(tools, Held("custody_unavailable", str(error)))
    if finding is not None:
        return _refused(tools, Held(finding.fault, finding.advice))
    tools.metrics.count_key_check("usable")
    return None


async def _unless_followed(
    tools: Tools, job: Job, description: KeyDescription, found: KeyFinding
) -> KeyFinding | None:
    """An alias names a tenant's key so that a slip is noticed. Once its data lie under the key, they may follow it.

    The job goes on under the key that it has: the rotation is the watch's to ask for (jobs.key_watch).
    """
    record, _ = await tools.ledger.placement(job.tenant)
    named, target_arn = job.named_key.placed, description.alias_target_arn
    if record is None or record.phase != "dedicated" or record.key_ref != job.key_ref:
        return found
    if target_arn is None or not isinstance(named, KmsKey):
        return found
    return await alias_finding(tools, job.tenant, named, target_arn)


def _refused(tools: Tools, held: Held) -> Held:
    tools.metrics.count_key_check(held.reason)
    return held


async def watch_key(tools: Tools, job: Job, bucket_region: str) -> Held:
    """Look at the key on an interval, for as long as it will do; ends with why it no longer does."""
    silent_checks = 0
    while True:
        await asyncio.sleep(tools.timings.key_check_seconds)
        held = await check_key(tools, job, bucket_region)
        if held is None:
            silent_checks = 0
            continue
        silent_checks += 1
        log.warning("key_not_usable", job=job.id, tenant=job.tenant, reason=held.reason, advice=held.error)
        if held.reason != "custody_unavailable" or silent_checks >= _SILENT_CHECKS_MAX:
            return held
