"""The lock of a revocation that is the bucket's own: a policy that refuses everybody, read back word for word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rekeyd.domain.bucket_policy import (
    has_ours,
    names_refusal,
    partition_of,
    refusal,
    refuses_everybody,
    with_ours,
    with_refusal,
    without_refusal,
)
from rekeyd.domain.errors import AccessDeniedError
from rekeyd.domain.objects import Location
from rekeyd.jobs.bucket_rules import statements_of
from rekeyd.jobs.preflight import TENANT_TAG
from rekeyd.jobs.tools import Store
from rekeyd.ledger.port import TenantMove
from rekeyd.stores.buckets import BucketDescription
from rekeyd.stores.port import LiveClaim

Stand = Literal[
    "refuses everybody",
    "is not there",
    "was never provisioned",  # not ours: what may be in it is somebody else's
    "the store has no bucket policies",
    "does not refuse everybody",  # although it was told to
]


@dataclass(frozen=True, slots=True)
class Closing:
    """How a bucket was left."""

    stand: Stand
    wrote: bool = False
    """Whether its policy was written: until then it was open."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a tenant's data are, or were about to be."""

    location: Location
    tenant: str
    partition: str
    """Where the bucket is, as the tenant's keys say."""
    provisioned: bool
    """Whether the ledger knows that making it the tenant's was begun."""


def homes_of(moves: Sequence[TenantMove], key_arns: Sequence[str]) -> list[Home]:
    """The dedicated buckets that a tenant's moves lead to, each once. The keys are the tenant's."""
    # Without any key that is imported nothing was provisioned, and nothing is written.
    partition = partition_of(key_arns[0]) if key_arns else "aws"
    found: dict[tuple[str, str], Home] = {}
    for move in moves:
        place = (move.target.store, move.target.bucket)
        known = place in found and found[place].provisioned
        found[place] = Home(move.target, move.tenant, partition, known or move.provisioned)
    return list(found.values())


async def refuse_everybody(store: Store, home: Home, claim: LiveClaim) -> Closing:
    """Have a dedicated bucket refuse everybody whatever concerns its objects; how it was read back. Raises StoreError.

    A policy that somebody has deleted is written anew. Where nothing would change nothing is written.
    """
    bucket = home.location.bucket
    try:
        found = await store.buckets.describe(bucket)
        if found is None:
            return Closing("is not there")
        policy = (await store.buckets.describe_rules(bucket)).policy
    except AccessDeniedError:
        # A name that somebody else has taken is none of ours, as long as we have begun nothing there.
        if home.provisioned:
            raise
        return Closing("was never provisioned")
    if policy is None:
        return Closing("the store has no bucket policies")
    if not (home.provisioned or _is_marked(found, home.tenant) or has_ours(policy)):
        return Closing("was never provisioned")
    wanted = refusal(bucket, home.partition)
    if refuses_everybody(policy, wanted):
        return Closing("refuses everybody")
    await store.buckets.set_policy(bucket, with_refusal(policy, wanted), claim=claim)
    kept = (await store.buckets.describe_rules(bucket)).policy
    refuses = kept is not None and refuses_everybody(kept, wanted)
    return Closing("refuses everybody" if refuses else "does not refuse everybody", wrote=True)


async def refuse_nobody(store: Store, home: Home, key_arns: Sequence[str], claim: LiveClaim) -> None:
    """Take that back. What must be in the policy, for these keys, is put there where nothing of it is left.

    Raises StoreError.
    """
    bucket = home.location.bucket
    if await store.buckets.describe(bucket) is None:
        return
    policy = (await store.buckets.describe_rules(bucket)).policy
    if policy is None or not names_refusal(policy):
        return
    opened = without_refusal(policy)
    if not has_ours(opened):
        opened = with_ours(opened, statements_of(store, bucket, key_arns))
    await store.buckets.set_policy(bucket, opened, claim=claim)


def _is_marked(bucket: BucketDescription, tenant: str) -> bool:
    """Whether it says itself that it is the tenant's, where a ledger of before knows nothing of that."""
    return bucket.tags.get(TENANT_TAG) == tenant
