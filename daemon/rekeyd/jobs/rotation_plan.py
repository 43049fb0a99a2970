"""What a rotation would do, before it is admitted: the bucket is listed, nothing else is asked or changed."""

from __future__ import annotations

from collections.abc import Sequence

from rekeyd.domain.errors import NotFoundError
from rekeyd.domain.job import RotateMessage
from rekeyd.domain.key import key_ref
from rekeyd.domain.objects import ObjectVersion
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.jobs.tools import Store
from rekeyd.transfer.plan import PlanLimits
from rekeyd.transfer.rekey_estimate import RotationEstimate, estimate
from rekeyd.transfer.rekey_plan import RekeyFacts, can_update


async def plan_rotation(
    store: Store, record: PlacementRecord, message: RotateMessage, key_arn: str | None, limits: PlanLimits
) -> RotationEstimate:
    """The estimate. Nothing at all for a key that the placement leads to, or without one. Raises StoreError.

    `key_arn` is None for a key that is still to be imported, into the account that we act in.
    """
    if message.key is None or key_ref(message.key) == record.key_ref:
        return RotationEstimate()
    assert record.target is not None, "a dedicated tenant has a target"
    bucket = record.target.bucket
    described = await store.buckets.describe(bucket)
    if described is None:
        raise NotFoundError("describe", f"no bucket {bucket!r}")
    account_id = store.objects.updates_keys_of
    facts = RekeyFacts(
        key_arn or key_ref(message.key),
        limits,
        updates=account_id != "" if key_arn is None else can_update(account_id, key_arn),
        copies_in_place=store.is_aws,
    )
    total = RotationEstimate()
    after: str | None = None
    reencrypts = message.options.reencrypt == "all"
    while True:
        page, after = await _page(store, bucket, after, versioned=described.versioning != "off")
        total = total.with_page(estimate(page, facts, reencrypts=reencrypts))
        if after is None:
            return total


async def _page(
    store: Store, bucket: str, after: str | None, *, versioned: bool
) -> tuple[Sequence[ObjectVersion], str | None]:
    if versioned:
        histories = await store.objects.list_versions_page(bucket, "", after=after)
        return histories.histories, histories.resume_after
    listing = await store.objects.list_page(bucket, "", after=after)
    return listing.objects, listing.resume_after
