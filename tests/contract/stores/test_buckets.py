"""The control plane: a bucket is what it was made to be, read back."""

from __future__ import annotations

import uuid

import pytest

from rekeyd.domain.errors import StoreError
from rekeyd.domain.objects import Encryption
from tests.contract.stores.conftest import REGION, Stand


async def test_a_bucket_is_described_as_it_was_made(stand: Stand) -> None:
    bucket = f"made-{uuid.uuid4().hex[:12]}"
    assert await stand.control.describe(bucket) is None

    for _ in range(2):
        await stand.control.create(bucket, REGION, claim=stand.claim)
    bare = await stand.control.describe(bucket)
    assert bare is not None
    assert (bare.region, bare.versioning, bare.tags, bare.bucket_key) == (REGION, "off", {}, False)

    await stand.control.set_tags(bucket, {"tenant": "acmé", "a b": ""}, claim=stand.claim)
    await stand.control.set_default_key(bucket, stand.key_arn, claim=stand.claim)
    made = await stand.control.describe(bucket)
    assert made is not None
    assert made.tags == {"tenant": "acmé", "a b": ""}
    assert made.default_encryption == Encryption("aws:kms", stand.key_arn)
    assert not made.bucket_key

    await stand.control.set_tags(bucket, {}, claim=stand.claim)
    untagged = await stand.control.describe(bucket)
    assert untagged is not None
    assert untagged.tags == {}


async def test_public_access_is_blocked_or_the_lack_is_said(stand: Stand) -> None:
    blocked = await stand.control.block_public_access(stand.bucket, claim=stand.claim)
    described = await stand.control.describe(stand.bucket)

    assert described is not None
    with stand.guarantees("blocks_public_access"):
        assert blocked
        assert described.public_access_blocked


async def test_the_default_key_holds_for_what_names_none(stand: Stand) -> None:
    stand.bucket = f"made-{uuid.uuid4().hex[:12]}"
    await stand.control.create(stand.bucket, REGION, claim=stand.claim)
    await stand.control.set_default_key(stand.bucket, stand.key_arn, claim=stand.claim)

    await stand.put("a")

    head = await stand.store.head(stand.bucket, stand.prefix + "a")
    assert head.encryption == Encryption("aws:kms", stand.key_arn)


async def test_what_is_absent_cannot_be_changed(stand: Stand) -> None:
    with pytest.raises(StoreError):
        await stand.control.set_tags("no-such-bucket", {"a": "b"}, claim=stand.claim)
    # SeaweedFS says 500 where AWS says NoSuchBucket.
    with pytest.raises(StoreError):
        await stand.control.set_default_key("no-such-bucket", stand.key_arn, claim=stand.claim)
