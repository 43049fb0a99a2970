"""How a dedicated bucket isn't what it was made to be any more: read only, whoever's turn it is to mend it."""

from __future__ import annotations

from collections.abc import Sequence

from rekeyd.domain.bucket_policy import Writing, our_statements, policy_drift
from rekeyd.jobs.preflight import TENANT_TAG
from rekeyd.jobs.tools import Store
from rekeyd.stores.buckets import BucketDescription


async def dedicated_drift(
    store: Store, bucket: str, tenant: str, key_arn: str, other_key_arns: Sequence[str] = ()
) -> str:
    """What protects the tenant's data in its bucket and isn't as it should be; empty where all is.

    `key_arn` is the default key; writers may name that one alone, or any of the others as well. Raises StoreError.
    """
    found = await store.buckets.describe(bucket)
    if found is None:
        return f"there is no bucket {bucket}"
    default = found.default_encryption
    if found.versioning == "suspended":
        return f"versioning of {bucket} is suspended, so that what is written may replace an older version: enable it"
    if found.tags.get(TENANT_TAG) != tenant:
        return f"{bucket} has lost its tag {TENANT_TAG}"
    if (default.algorithm, default.key) != ("aws:kms", key_arn) or found.bucket_key:
        return f"the default encryption of {bucket} isn't the customer key without S3 Bucket Keys"
    if is_public(store, found):
        return f"public access to {bucket} isn't blocked"
    policy = (await store.buckets.describe_rules(bucket)).policy
    if policy is None:
        return f"{bucket} has no policy" if store.is_aws else ""
    allowed = [(key_arn,), (key_arn, *other_key_arns)]
    found_drift = [policy_drift(policy, our_statements(_writing(store, bucket, keys))) for keys in allowed]
    return "" if "" in found_drift else f"{bucket}: {found_drift[0]}"


def is_public(store: Store, bucket: BucketDescription) -> bool:
    """Whether it may be: public access isn't blocked, or a store that has such a thing doesn't say."""
    return bucket.public_access_blocked is False or (bucket.public_access_blocked is None and store.is_aws)


def _writing(store: Store, bucket: str, key_arns: tuple[str, ...]) -> Writing:
    return Writing(
        bucket,
        key_arns,
        denies_plain_http=store.is_aws,
        denies_unnamed_keys=store.is_aws,
        updates_encryption=store.is_aws,
    )
