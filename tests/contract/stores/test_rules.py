"""What a bucket refuses and does away with by itself: set beside what others have set, and at work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from awscrt.checksums import crc64nvme
from botocore.exceptions import ClientError

from rekeyd.domain.bucket_policy import Policy, Writing, our_statements, policy_drift, with_ours
from rekeyd.domain.errors import AccessDeniedError, NotFoundError, StoreError
from rekeyd.domain.objects import Attributes
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import IfAbsent, UnderKey
from tests.contract.stores.conftest import REGION, Stand

THEIRS = {
    "Sid": "TheirsStays",
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:PutObject",
    "Resource": "arn:aws:s3:::{bucket}/forbidden/*",
}


@pytest.fixture
async def made(stand: Stand) -> Stand:
    """With a bucket that nobody else has set anything for."""
    stand.bucket = f"rules-{stand.prefix[:12]}"
    await stand.control.create(stand.bucket, REGION, claim=stand.claim)
    await stand.control.set_default_key(stand.bucket, stand.key_arn, claim=stand.claim)
    return stand


async def test_a_bucket_begins_without_rules(made: Stand) -> None:
    rules = await made.control.describe_rules(made.bucket)

    assert (rules.policy, rules.unfinished_uploads_expire_after_days) == ({}, 0)


async def test_a_policy_is_kept_as_it_was_set(made: Stand) -> None:
    theirs: Policy = {
        "Version": "2012-10-17",
        "Statement": [{**THEIRS, "Resource": f"arn:aws:s3:::{made.bucket}/forbidden/*"}],
    }
    ours = our_statements(
        Writing(
            made.bucket,
            (made.key_arn,),
            denies_plain_http=False,
            denies_unnamed_keys=True,
            updates_encryption=False,
        )
    )
    assert await made.control.set_policy(made.bucket, theirs, claim=made.claim)
    found = (await made.control.describe_rules(made.bucket)).policy
    assert found is not None
    assert policy_drift(found, ours)

    for _ in range(2):
        assert await made.control.set_policy(made.bucket, with_ours(found, ours), claim=made.claim)
        found = (await made.control.describe_rules(made.bucket)).policy
        assert found is not None
        assert not policy_drift(found, ours)
    statements = found["Statement"]
    assert isinstance(statements, list)
    assert [each["Sid"] for each in statements] == ["TheirsStays", *(each["Sid"] for each in ours)]


async def test_unfinished_uploads_expire_and_it_can_be_changed(made: Stand) -> None:
    for days in (7, 7, 3):
        assert await made.control.expire_unfinished_uploads(made.bucket, days, claim=made.claim)
        rules = await made.control.describe_rules(made.bucket)
        assert rules.unfinished_uploads_expire_after_days == days


async def test_rules_of_others_stay(made: Stand) -> None:
    if made.outsider is None:
        pytest.skip("in memory nobody else can set rules")
    async with made.outsider() as s3:
        theirs: Any = {
            "ID": "theirs",
            "Status": "Enabled",
            "Filter": {"Prefix": "logs/"},
            "Expiration": {"Days": 3},
        }
        await s3.put_bucket_lifecycle_configuration(
            Bucket=made.bucket, LifecycleConfiguration={"Rules": [theirs]}
        )
        assert (await made.control.describe_rules(made.bucket)).unfinished_uploads_expire_after_days == 0

        for _ in range(2):
            await made.control.expire_unfinished_uploads(made.bucket, 7, claim=made.claim)

        answer = await s3.get_bucket_lifecycle_configuration(Bucket=made.bucket)
        assert [rule.get("ID") for rule in answer["Rules"]] == ["theirs", "rekeyd-unfinished-uploads"]
        assert answer["Rules"][0] == theirs


async def test_what_is_absent_has_no_rules(stand: Stand) -> None:
    with pytest.raises(NotFoundError):
        await stand.control.describe_rules("no-such-bucket")
    with pytest.raises(StoreError):
        await stand.control.set_policy("no-such-bucket", {"Statement": []}, claim=stand.claim)
    with pytest.raises(StoreError):
        await stand.control.expire_unfinished_uploads("no-such-bucket", 7, claim=stand.claim)


# --- at work ---

FORBIDDEN = r"AccessDenied|403"
OTHER_KEY = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"
REFUSED: dict[str, Callable[[Stand], dict[str, Any]]] = {
    "AES256": lambda _: {"ServerSideEncryption": "AES256"},
    "twice": lambda stand: {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": stand.key_arn},
    "another key": lambda _: {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": OTHER_KEY},
    "the key's bare id": lambda stand: {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": stand.key_arn.rpartition("/")[2],
    },
    "a key that is provided": lambda _: {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
}


async def ruled(stand: Stand, *, denies_plain_http: bool = False, denies_unnamed_keys: bool = False) -> None:
    """Give the bucket the policy of a dedicated one."""
    writing = Writing(
        stand.bucket,
        (stand.key_arn,),
        denies_plain_http=denies_plain_http,
        denies_unnamed_keys=denies_unnamed_keys,
        updates_encryption=False,
    )
    await stand.control.set_policy(stand.bucket, with_ours({}, our_statements(writing)), claim=stand.claim)


async def upload(stand: Stand, name: str, under: UnderKey | None) -> None:
    """Write an object in two parts."""
    store, claim = stand.store, stand.claim
    begun = await store.begin_upload(
        stand.bucket, stand.prefix + name, Attributes(), under=under, claim=claim
    )
    sizes = (5 * 1024**2, 10)
    parts = [
        await store.put_part(begun, number, BytesContent(b"x" * size), claim=claim)
        for number, size in enumerate(sizes, start=1)
    ]
    await store.complete_upload(
        begun, parts, condition=IfAbsent(), crc64nvme=crc64nvme(b"x" * sum(sizes)), claim=claim
    )


async def test_what_names_the_key_or_nothing_passes(made: Stand) -> None:
    await made.put("there")
    await ruled(made)

    with made.guarantees("reads_policy_conditions"):
        await made.put("default")
    with made.guarantees("reads_policy_conditions"):
        await made.put("named", under=made.under)
    with made.guarantees("reads_policy_conditions"):
        await made.store.copy(
            made.bucket,
            made.prefix + "copied",
            source_bucket=made.bucket,
            source=await made.version("there"),
            condition=IfAbsent(),
            under=made.under,
            claim=made.claim,
        )
    with made.guarantees("reads_policy_conditions"):
        await upload(made, "default in parts", None)
    with made.guarantees("reads_policy_conditions"):
        await upload(made, "named in parts", made.under)

    for version in await made.listed():
        head = await made.store.head(made.bucket, version.key)
        assert (head.encryption.algorithm, head.encryption.key) == ("aws:kms", made.key_arn), version.key


@pytest.mark.parametrize("refused", REFUSED)
async def test_what_names_another_encryption_is_refused(made: Stand, refused: str) -> None:
    if made.outsider is None:
        pytest.skip("in memory nobody else writes")
    named = REFUSED[refused](made)
    await made.put("there")
    await ruled(made)
    async with made.outsider() as s3:
        key = made.prefix + "k"
        source: Any = {"Bucket": made.bucket, "Key": made.prefix + "there"}
        with made.guarantees("enforces_policy"), pytest.raises(ClientError, match=FORBIDDEN):
            await s3.put_object(Bucket=made.bucket, Key=key, Body=b"data", **named)
        with made.guarantees("enforces_policy"), pytest.raises(ClientError, match=FORBIDDEN):
            await s3.copy_object(Bucket=made.bucket, Key=key, CopySource=source, **named)
        with made.guarantees("polices_uploads"), pytest.raises(ClientError, match=FORBIDDEN):
            await s3.create_multipart_upload(Bucket=made.bucket, Key=key, **named)


async def test_a_key_that_is_not_named_is_refused_and_parts_of_an_upload_are_not(made: Stand) -> None:
    """Where a store lacks this, the dedicated bucket's policy goes without that statement."""
    if made.outsider is None:
        pytest.skip("in memory nobody else writes")
    await ruled(made, denies_unnamed_keys=True)
    async with made.outsider() as s3:
        with made.guarantees("enforces_policy"), pytest.raises(ClientError, match=FORBIDDEN):
            await s3.put_object(
                Bucket=made.bucket, Key=made.prefix + "k", Body=b"data", ServerSideEncryption="aws:kms"
            )
    with made.guarantees("judges_parts_alone"):
        await upload(made, "default", None)
    with made.guarantees("judges_parts_alone"):
        await upload(made, "named", made.under)


async def test_plain_http_is_refused(made: Stand) -> None:
    await made.put("k")
    await ruled(made, denies_plain_http=True)

    with made.guarantees("enforces_policy"), pytest.raises(AccessDeniedError):
        await made.version("k")
