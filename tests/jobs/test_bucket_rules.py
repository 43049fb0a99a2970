"""The dedicated bucket's policy and lifecycle: set beside what others have set, read back, and held where it drifts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rekeyd.domain.bucket_policy import Policy
from rekeyd.domain.errors import UnavailableError
from rekeyd.stores.buckets import BucketRules
from tests.doubles.iam import Request, is_denied
from tests.jobs.test_held import held_then_mended
from tests.jobs.world import FINAL, KEY, SOURCE, TARGET_BUCKET, Data, World

THEIRS: Mapping[str, object] = {
    "Sid": "Readers",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::111122223333:role/readers"},
    "Action": "s3:GetObject",
    "Resource": f"arn:aws:s3:::{TARGET_BUCKET}/*",
}


def sids(world: World) -> list[str]:
    statements: Any = world.target_shelf.buckets[TARGET_BUCKET].policy["Statement"]
    return [each["Sid"] for each in statements]


async def moved(world: World) -> None:
    objects = world.fill({"a": Data(b"a")})
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)


@pytest.mark.parametrize("is_aws", [False, True])
async def test_a_dedicated_bucket_refuses_other_keys_and_does_away_with_unfinished_uploads(
    world: World, is_aws: bool
) -> None:
    world.is_aws = is_aws
    await moved(world)

    bucket = world.target_shelf.buckets[TARGET_BUCKET]
    assert bucket.unfinished_uploads_expire_after_days == 7
    everywhere = ["rekeydDenyOtherEncryption", "rekeydDenyOtherKeys", "rekeydDenyCustomerProvidedKeys"]
    on_aws = ["rekeydDenyUnnamedKeys", "rekeydDenyUpdatesToOtherKeys", "rekeydDenyPlainHttp"]
    assert sids(world) == everywhere + (on_aws if is_aws else [])
    name, resource = "s3:x-amz-server-side-encryption", f"arn:aws:s3:::{TARGET_BUCKET}/a"
    ours = {name: "aws:kms", f"{name}-aws-kms-key-id": KEY.arn}
    others = {name: "aws:kms", f"{name}-aws-kms-key-id": f"{KEY.arn}-other"}
    assert not is_denied(bucket.policy, Request("s3:PutObject", resource, ours))
    assert is_denied(bucket.policy, Request("s3:PutObject", resource, others))
    assert (
        is_denied(bucket.policy, Request("s3:PutObject", resource, {"aws:SecureTransport": "false"}))
        is is_aws
    )
    assert is_denied(bucket.policy, Request("s3:UpdateObjectEncryption", resource, others)) is is_aws
    assert not is_denied(bucket.policy, Request("s3:UpdateObjectEncryption", resource, ours))


async def test_a_source_is_asked_for_no_rules(world: World) -> None:
    await moved(world)

    assert world.script.count("describe_rules", TARGET_BUCKET)
    assert not world.script.count("describe_rules", SOURCE.bucket)


async def test_statements_of_others_stay(world: World) -> None:
    world.target_shelf.make_bucket(TARGET_BUCKET)
    world.target_shelf.buckets[TARGET_BUCKET].policy = {"Version": "2012-10-17", "Statement": THEIRS}
    await moved(world)

    assert sids(world)[0] == "Readers"
    assert len(sids(world)) == 4


async def test_a_shorter_time_of_somebody_elses_is_enough(world: World) -> None:
    world.target_shelf.make_bucket(TARGET_BUCKET)
    world.target_shelf.buckets[TARGET_BUCKET].unfinished_uploads_expire_after_days = 2
    await moved(world)

    assert not world.script.count("expire_unfinished_uploads")


async def test_what_is_set_already_is_not_set_again(world: World) -> None:
    world.fill({"a": Data(b"a")})
    expected = world.in_source()
    world.script.on("list_page", bucket=SOURCE.bucket, times=None).fails(UnavailableError)
    async with world.process() as process:
        assert (await process.move()).held_reason == "store_unavailable"
        world.script.clear()
        await world.make_due()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, expected)
    assert world.script.count("set_policy") == 1
    assert world.script.count("expire_unfinished_uploads") == 1


def lacking(policy: Policy, sid: str) -> Policy:
    """The policy without a statement."""
    statements: Any = policy["Statement"]
    return {**policy, "Statement": [each for each in statements if each["Sid"] != sid]}


def allowing(policy: Policy, sid: str) -> Policy:
    """The policy with the opposite of a statement."""
    statements: Any = policy["Statement"]
    return {
        **policy,
        "Statement": [{**each, "Effect": "Allow"} if each["Sid"] == sid else each for each in statements],
    }


@pytest.mark.parametrize("change", [lacking, allowing])
async def test_a_policy_that_reads_back_otherwise_holds_the_job(world: World, change: Any) -> None:  # noqa: ANN401
    world.fill({"a": Data(b"a")})

    def otherwise(rules: BucketRules) -> BucketRules:
        if not rules.policy:
            return rules
        return replace(rules, policy=change(rules.policy, "rekeydDenyOtherKeys"))

    world.script.always("describe_rules", bucket=TARGET_BUCKET).answers(otherwise)

    def mend() -> None:
        assert world.script.count("put", TARGET_BUCKET) == 0, "no object was written"
        world.script.clear()

    job = await held_then_mended(world, "drift", mend)
    assert "rekeydDenyOtherKeys" in str(job.error)


@pytest.mark.parametrize(
    ("word", "lack"),
    [
        ("expire", {"unfinished_uploads_expire_after_days": 0}),
        ("expire", {"unfinished_uploads_expire_after_days": 30}),
        ("lifecycle", {"unfinished_uploads_expire_after_days": None}),
        ("policies", {"policy": None}),
    ],
)
async def test_rules_that_aws_does_not_keep_hold_the_job(
    world: World, word: str, lack: dict[str, Any]
) -> None:
    world.fill({"a": Data(b"a")})
    world.is_aws = True
    world.script.always("describe_rules").answers(lambda rules: replace(rules, **lack))

    job = await held_then_mended(world, "drift", world.script.clear)
    assert word in str(job.error)


async def test_rules_that_another_store_does_not_have_are_not_required_of_it(world: World) -> None:
    none = BucketRules(policy=None, unfinished_uploads_expire_after_days=None)
    world.script.always("describe_rules").answers(lambda _: none)
    await moved(world)

    assert not world.script.count("set_policy")
    assert not world.script.count("expire_unfinished_uploads")
