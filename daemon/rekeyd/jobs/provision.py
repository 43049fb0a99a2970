"""Making the dedicated bucket what it must be, and reading back that it is."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass

from rekeyd.domain.errors import InterruptedTransferError, PreconditionError, StoreRefusedError
from rekeyd.domain.job import Job
from rekeyd.domain.objects import OWN_PREFIX, Encryption, ObjectVersion
from rekeyd.jobs.bucket_rules import report_lacks, rules_drift, set_rules
from rekeyd.jobs.endings import Held
from rekeyd.jobs.own_objects import Ground, write_own
from rekeyd.jobs.preflight import TENANT_TAG, Ready
from rekeyd.jobs.run import JobRun
from rekeyd.jobs.tools import Store, Tools
from rekeyd.stores.buckets import BucketDescription, BucketRules
from rekeyd.stores.port import LiveClaim, UnderKey
from rekeyd.transfer.checksum import crc64nvme
from rekeyd.transfer.route import head_or_none

CANARY_KEY = OWN_PREFIX + "canary"
PROBE_KEY = OWN_PREFIX + "probe"

_WRONG_CHECKSUM_CODES = frozenset({"BadDigest", "XAmzContentChecksumMismatch"})
"""How S3 says that a body doesn't have the announced checksum ("Error responses", Amazon S3 API Reference)."""

OTHER_BUCKET = Held(
    "drift",
    "the target isn't the bucket that was provisioned: its canary is gone or another one, so the copies are, too",
    by_itself=False,
)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The dedicated bucket stands as it should."""

    checks_checksums: bool
    """It was seen to refuse a write whose checksum is wrong."""


async def provision(run: JobRun, ready: Ready) -> Provisioned | Held:
    """Make the bucket, or complete one that was begun; read back every setting; prove the key with an object.

    Repeating it changes nothing more. What is to be set, and how it was read back, is on record.
    """
    job, claim = run.job, run.kept
    store = run.tools.target_of(job)
    begun = await run.tools.ledger.current_pass(run.claim) is not None
    if begun and not await canary_reads(run.tools, job):
        return OTHER_BUCKET
    await _record_intent(run, ready)
    token = await run.tools.ledger.keep_canary(run.claim, secrets.token_hex(16))
    former = await _configure(store, job, ready, claim)
    bucket = await store.buckets.describe(job.target.bucket)
    rules = None if bucket is None else await store.buckets.describe_rules(job.target.bucket)
    await _record_provisioned(run, _read_back(ready.bucket, former), _read_back(bucket, rules))
    if bucket is None or rules is None:
        return Held("drift", f"{job.target.bucket}: there is no bucket")
    drift = _drift(store, job, ready, bucket) or rules_drift(store, job, rules)
    if drift:
        return Held("drift", f"{job.target.bucket}: {drift}")
    report_lacks(store, job, bucket, rules)
    return await _prove_key(store, job, _canary(job, token), claim) or Provisioned(
        await refuses_wrong_checksum(store, job, claim)
    )


async def _record_intent(run: JobRun, ready: Ready) -> None:
    details = {
        "bucket": run.job.target.bucket,
        "region": ready.region,
        "exists": ready.bucket is not None,
        "key": run.job.key.arn,
        "objects": [CANARY_KEY, PROBE_KEY],
    }
    await run.tools.ledger.record_action(run.claim, "bucket.provision_intended", details)


def _read_back(bucket: BucketDescription | None, rules: BucketRules | None) -> dict[str, object]:
    """All that is known of a bucket; nothing where there is none."""
    return {} if bucket is None or rules is None else asdict(bucket) | asdict(rules)


async def _record_provisioned(run: JobRun, former: dict[str, object], found: dict[str, object]) -> None:
    """How the bucket was read back, whatever it should be, and what of it is other than it was before."""
    details = {
        "bucket": run.job.target.bucket,
        "found": found,
        "changed": sorted(name for name in found if name not in former or former[name] != found[name]),
    }
    await run.tools.ledger.record_action(run.claim, "bucket.provisioned", details)


async def _configure(store: Store, job: Job, ready: Ready, claim: LiveClaim) -> BucketRules:
    """Set what isn't as it must be. Gives the rules that were there before."""
    name, bucket, source = job.target.bucket, ready.bucket, ready.source
    versioned = source.versioning == "enabled"
    if bucket is None:
        await store.buckets.create(
            name, ready.region, versioned=versioned, object_lock=source.object_lock, claim=claim
        )
    elif versioned and bucket.versioning == "off":
        await store.buckets.enable_versioning(name, claim=claim)
    if bucket is None or bucket.tags.get(TENANT_TAG) != job.tenant:
        tags = {} if bucket is None else dict(bucket.tags)
        await store.buckets.set_tags(name, tags | {TENANT_TAG: job.tenant}, claim=claim)
    if bucket is None or not _has_default_key(job, bucket):
        await store.buckets.set_default_key(name, job.key.arn, claim=claim)
    # Before public access is blocked: a policy of somebody else's that grants it could not be written again then.
    rules = await set_rules(store, job, claim)
    if bucket is None or bucket.public_access_blocked is not True:
        await store.buckets.block_public_access(name, claim=claim)
    return rules


def _has_default_key(job: Job, bucket: BucketDescription) -> bool:
    encryption = bucket.default_encryption
    return encryption.algorithm == "aws:kms" and encryption.key == job.key.arn and not bucket.bucket_key


def _drift(store: Store, job: Job, ready: Ready, bucket: BucketDescription) -> str:
    """How the bucket, as it was read back, isn't what it was made to be; empty where it is."""
    if bucket.versioning != ready.source.versioning:
        return f"its versioning is {bucket.versioning}, not {ready.source.versioning} as the source's"
    if ready.source.object_lock and not bucket.object_lock:
        return "it has no Object Lock, unlike the source"
    if bucket.tags.get(TENANT_TAG) != job.tenant:
        return f"the tag {TENANT_TAG} isn't kept"
    if not _has_default_key(job, bucket):
        return "the default encryption isn't the customer key without S3 Bucket Keys"
    if bucket.public_access_blocked is False or (bucket.public_access_blocked is None and store.is_aws):
        return "public access isn't blocked"
    return ""


async def prove_default_key(run: JobRun) -> Held | None:
    """Have the canary that is on record written anew without naming a key, and see it lie under the job's."""
    token = await run.tools.ledger.canary(run.job)
    if token is None:
        return OTHER_BUCKET
    return await _prove_key(run.tools.target_of(run.job), run.job, _canary(run.job, token), run.kept)


async def _prove_key(store: Store, job: Job, canary: bytes, claim: LiveClaim) -> Held | None:
    """Write an object that names no key and read it back: the default key must be at work.

    Where it stands already under the job's key it is only read. Other content is overwritten: where copies rely on it
    this isn't reached, and where others' copies did, they are gone.
    """
    key_arn = job.key.arn
    head = await head_or_none(store.objects, job.target.bucket, CANARY_KEY)
    if (
        head is not None
        and head.encryption == Encryption("aws:kms", key_arn)
        and await _read(store, job, head.version) == canary
    ):
        return None
    # Where the condition doesn't hold, an earlier write whose answer was lost did it, or not: what is read tells.
    with suppress(PreconditionError):
        await write_own(Ground(store.objects, job.target.bucket, None, claim), CANARY_KEY, canary)
    head = await store.objects.head(job.target.bucket, CANARY_KEY)
    if head.encryption != Encryption("aws:kms", key_arn):
        said = "has a Bucket Key" if head.encryption.bucket_key else f"isn't under {key_arn}"
        return Held("drift", f"{job.target.bucket}: what is written without a key {said}")
    if await _read(store, job, head.version) != canary:
        return Held("drift", f"{job.target.bucket}: the canary doesn't read back as it was written")
    return None


async def canary_reads(tools: Tools, job: Job) -> bool:
    """Whether the canary that was written can be read in the target now.

    Then its key is at work, and the bucket is the very one that was provisioned: one that was deleted and made anew
    may have the same name, settings and tags.
    """
    store, token = tools.target_of(job), await tools.ledger.canary(job)
    head = await head_or_none(store.objects, job.target.bucket, CANARY_KEY)
    return (
        head is not None
        and token is not None
        and await _read(store, job, head.version) == _canary(job, token)
    )


def _canary(job: Job, token: str) -> bytes:
    return f"rekeyd canary of {job.tenant} {token}".encode()


async def refuses_wrong_checksum(store: Store, job: Job, claim: LiveClaim) -> bool:
    """Offer bytes with a checksum that isn't theirs: who takes them doesn't look at checksums.

    Only the store's own word for a wrong checksum counts; whatever else goes wrong proves nothing.
    """
    data = b"these bytes do not have the checksum that is announced"
    refused = False
    try:
        # Once is enough: repeating is for damage on the way, and this damage is on purpose.
        ground = Ground(store.objects_once, job.target.bucket, UnderKey(job.key.arn), claim)
        await write_own(ground, PROBE_KEY, data, crc=crc64nvme(data) ^ 1)
    except (InterruptedTransferError, StoreRefusedError) as error:
        refused = error.code in _WRONG_CHECKSUM_CODES
    head = await head_or_none(store.objects, job.target.bucket, PROBE_KEY)
    if head is None:
        return refused
    await store.objects.delete(job.target.bucket, [head.version], claim=claim)
    return False


async def _read(store: Store, job: Job, version: ObjectVersion) -> bytes:
    async with store.objects.read(job.target.bucket, version) as stream:
        return b"".join([chunk async for chunk in stream.chunks()])
