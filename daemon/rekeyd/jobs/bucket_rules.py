"""What a dedicated bucket refuses by policy and does away with by itself: set, and read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog

from rekeyd.domain.bucket_policy import (
    Statement,
    Writing,
    names_refusal,
    our_statements,
    policy_drift,
    with_ours,
)
from rekeyd.domain.errors import RevokedError
from rekeyd.domain.job import Job
from rekeyd.jobs.tools import Store
from rekeyd.stores.buckets import BucketDescription, BucketRules
from rekeyd.stores.port import LiveClaim

log = structlog.get_logger()

UPLOADS_EXPIRE_AFTER_DAYS = 7
"""An upload that nobody has completed by then is nobody's any more: no part of it is left to be paid for, or read."""


async def set_rules(
    store: Store, job: Job, claim: LiveClaim, further_keys: Sequence[str] = ()
) -> BucketRules:
    """Bring the bucket's policy and lifecycle rules to what they must be, as far as the store has such things.

    Writers may name the job's key, or one of the further ones. Others' statements and rules stay. Nothing is written
    where nothing would change. Gives what was there before.

    Raises RevokedError where the bucket refuses everybody: a claim that a revocation has ended may go on until its
    holder notices, and must not open what was closed.
    """
    name, ours = job.target.bucket, _ours(store, job, further_keys)
    rules = await store.buckets.describe_rules(name)
    if rules.policy is not None and names_refusal(rules.policy):
        raise RevokedError(
            f"{name} refuses everybody, as a revocation has it: a reinstatement opens it (where this ledger knows of "
            "no revocation, revoke the tenant and reinstate it)"
        )
    if rules.policy is not None and policy_drift(rules.policy, ours):
        await store.buckets.set_policy(name, with_ours(rules.policy, ours), claim=claim)
    days = rules.unfinished_uploads_expire_after_days
    if days is not None and not _expire_in_time(days):
        await store.buckets.expire_unfinished_uploads(name, UPLOADS_EXPIRE_AFTER_DAYS, claim=claim)
    return rules


def rules_drift(store: Store, job: Job, rules: BucketRules, further_keys: Sequence[str] = ()) -> str:
    """How the rules, as they were read back, aren't what they were made to be; empty where they are."""
    if rules.policy is None:
        if store.is_aws:
            return "the store has no bucket policies"
    elif drift := policy_drift(rules.policy, _ours(store, job, further_keys)):
        return drift
    days = rules.unfinished_uploads_expire_after_days
    if days is None:
        return "the store has no lifecycle rules" if store.is_aws else ""
    return "" if _expire_in_time(days) else "unfinished uploads don't expire"


def report_lacks(store: Store, job: Job, bucket: BucketDescription, rules: BucketRules) -> None:
    """Tell the operator what protects the bucket less than on AWS, since the store has no such thing."""
    lacks = list(_lacks(store, bucket, rules))
    if lacks:
        log.warning("store_protects_less", job=job.id, bucket=job.target.bucket, lacks=lacks)


def _lacks(store: Store, bucket: BucketDescription, rules: BucketRules) -> Iterator[str]:
    if bucket.public_access_blocked is None:
        yield "public access block"
    if rules.policy is None:
        yield "bucket policy"
    elif not store.is_aws:
        yield "denial of keys that a writer leaves unnamed"
        yield "denial of plain HTTP"
    if rules.unfinished_uploads_expire_after_days is None:
        yield "expiry of unfinished uploads"


def statements_of(store: Store, bucket: str, key_arns: Sequence[str]) -> tuple[Statement, ...]:
    """What the policy of a dedicated bucket must have, where writers may name these keys."""
    writing = Writing(
        bucket,
        tuple(key_arns),
        denies_plain_http=store.is_aws,
        denies_unnamed_keys=store.is_aws,
        updates_encryption=store.is_aws,
    )
    return our_statements(writing)


def _ours(store: Store, job: Job, further_keys: Sequence[str] = ()) -> tuple[Statement, ...]:
    return statements_of(store, job.target.bucket, (job.key.arn, *further_keys))


def _expire_in_time(days: int) -> bool:
    return 0 < days <= UPLOADS_EXPIRE_AFTER_DAYS
