"""Before anything is written: are key, source and target as a migration needs them?"""

from __future__ import annotations

from dataclasses import dataclass

from rekeyd.domain.errors import AccessDeniedError
from rekeyd.domain.job import Job
from rekeyd.domain.objects import OWN_PREFIX, Location
from rekeyd.jobs.endings import Failed, Held
from rekeyd.jobs.tools import Store, Tools
from rekeyd.jobs.watch import check_key
from rekeyd.stores.buckets import BucketDescription

TENANT_TAG = "rekeyd:tenant"
"""The tag by which a dedicated bucket says whose it is."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Nothing stands in the way."""

    bucket: BucketDescription | None
    """The target's bucket, None where it is still to be made."""
    region: str
    """Where it is, or will be."""
    source: BucketDescription
    """The source's bucket: the target keeps versions, and locks, as it does."""


async def preflight(tools: Tools, job: Job, *, begun: bool, dedicated: bool = False) -> Ready | Held | Failed:
    """Look at key, source and target; write nothing.

    `begun` says that the ledger knows of copies in the target, so that what is there is ours; `dedicated` that the
    tenant lives there already: then the target's versioning is its own affair, and an obstacle is one to be mended.
    """
    if _one_bucket(tools, job):
        return Failed(f"target: {job.target} and the source, {job.source}, are in one bucket of one store")
    source = await _source(tools, job, dedicated=dedicated)
    if not isinstance(source, BucketDescription):
        return source
    target = tools.target_of(job)
    try:
        bucket = await target.buckets.describe(job.target.bucket)
        fault = await _target_fault(target, job, bucket, begun=begun)
        if fault is None and bucket is not None and not dedicated:
            fault = _unlike(job, source, bucket)
    except AccessDeniedError as error:
        return Held("access_denied", f"the target refuses us: {error}")
    if fault is not None:
        return fault
    region = target.region if bucket is None else bucket.region
    return await check_key(tools, job, region) or Ready(bucket, region, source)


def _one_bucket(tools: Tools, job: Job) -> bool:
    """Whether both ends are in one bucket, by whatever names. A dedicated bucket is no part of a shared one."""
    services = {store.service for store in (tools.source_of(job), tools.target_of(job))}
    return len(services) == 1 and job.source.bucket == job.target.bucket


async def _source(tools: Tools, job: Job, *, dedicated: bool) -> BucketDescription | Held | Failed:
    try:
        bucket = await tools.source_of(job).buckets.describe(job.source.bucket)
    except AccessDeniedError as error:
        return Held("access_denied", f"the source refuses us: {error}")
    if bucket is None:
        return Failed(f"source: there is no bucket {job.source.bucket}")
    if bucket.versioning != "suspended":
        return bucket
    # What has the id null can be replaced at any time there, and no id pins it: enabled or never, it is exact.
    fault = f"source: versioning of {job.source.bucket} is suspended, so that no id pins a version: enable it"
    return Held("drift", fault, by_itself=False) if dedicated else Failed(fault)


def _unlike(job: Job, source: BucketDescription, target: BucketDescription) -> Failed | None:
    """Whether a bucket that is there can't become like the source: versions can be enabled, never switched off."""
    name = job.target.bucket
    if target.versioning == "suspended" or (target.versioning == "enabled" and source.versioning == "off"):
        return Failed(f"target: versioning of {name} is {target.versioning}, unlike the source's")
    if source.object_lock and not target.object_lock:
        return Failed(f"target: {name} was made without Object Lock, unlike the source's bucket")
    return None


async def _target_fault(
    store: Store, job: Job, bucket: BucketDescription | None, *, begun: bool
) -> Held | Failed | None:
    """Whether the bucket is the tenant's dedicated one, or empty or still to be made, and so may become it."""
    if bucket is None:
        # Made anew it would be empty, while the ledger calls its copies verified: the switch would lead to nothing.
        gone = f"there is no bucket {job.target.bucket} any more, and the copies in it are gone"
        return Held("drift", gone, by_itself=False) if begun else None
    owner = bucket.tags.get(TENANT_TAG)
    if owner is not None and owner != job.tenant:
        return Failed(f"target: {job.target.bucket} belongs to another tenant ({TENANT_TAG} = {owner})")
    if begun and owner is None:
        return Held("drift", f"{job.target.bucket} has lost its tag {TENANT_TAG}: restore it", by_itself=True)
    if not begun and await holds_tenant_objects(store, job.target):
        return Failed(f"target: {job.target} holds objects that rekeyd did not put there")
    return None


async def holds_tenant_objects(store: Store, location: Location) -> bool:
    """Whether there is any object in the location's bucket that isn't rekeyd's own."""
    after = None
    while True:
        page = await store.objects.list_page(location.bucket, "", after=after)
        if any(not version.key.startswith(OWN_PREFIX) for version in page.objects):
            return True
        after = page.resume_after
        if after is None:
            return False
