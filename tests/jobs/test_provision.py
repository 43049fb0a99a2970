"""What is done to the dedicated bucket is on record: what was about to be set, and how it was read back."""

from __future__ import annotations

from collections.abc import Sequence

from rekeyd.domain.errors import UnavailableError
from rekeyd.domain.objects import Encryption
from rekeyd.ledger.port import JobClaim, StoreAction
from tests.doubles.faulty import Call
from tests.jobs.world import FINAL, KEY, TARGET_BUCKET, TENANT, Data, Process, World

CONFIGURING = {
    *("create", "set_tags", "set_default_key", "block_public_access"),
    *("set_policy", "expire_unfinished_uploads"),
}


def order_of(world: World, process: Process) -> list[str]:
    """The changes of the target and the records about it, as they come."""
    order: list[str] = []

    def note(call: Call) -> None:
        if call.mutates and call.bucket == TARGET_BUCKET:
            order.append(call.operation)

    record_action = process.direct.record_action

    async def noted(claim: JobClaim, action: StoreAction, details: dict[str, object]) -> None:
        await record_action(claim, action, details)
        order.append(action)

    world.script.before_each = note
    process.direct.record_action = noted  # type: ignore[method-assign, assignment]
    return order


def told(order: Sequence[str]) -> list[str]:
    """The order until the bucket is read back."""
    return list(order[: order.index("bucket.provisioned") + 1])


async def test_a_bucket_that_is_made_is_on_record_before_and_after(world: World) -> None:
    expected = world.fill({"a": Data(b"a")})
    async with world.process() as process:
        order = order_of(world, process)
        await process.move()
        await world.assert_moved(process.direct, expected)
        (intended,) = await world.records(process.direct, "bucket.provision_intended")
        (provisioned,) = await world.records(process.direct, "bucket.provisioned")

    assert set(told(order)[1:-1]) == CONFIGURING
    assert told(order)[0] == "bucket.provision_intended"
    assert not CONFIGURING & set(order[order.index("bucket.provisioned") :])
    about = {"bucket": TARGET_BUCKET, "actor": "daemon-1", "tenant": TENANT, "job": "job-1"}
    assert intended.items() >= (about | {"exists": False, "key": KEY.arn, "region": "us-east-1"}).items()
    assert intended["objects"] == [".rekeyd/canary", ".rekeyd/probe"]
    assert provisioned.items() >= about.items()
    assert set(provisioned["changed"]) == set(provisioned["found"])
    assert (
        provisioned["found"].items()
        >= {
            "region": "us-east-1",
            "versioning": "off",
            "tags": {"rekeyd:tenant": TENANT},
            "default_encryption": {"algorithm": "aws:kms", "key": KEY.arn, "bucket_key": False},
            "bucket_key": False,
            "public_access_blocked": True,
            "policy": dict(world.target_shelf.buckets[TARGET_BUCKET].policy),
            "unfinished_uploads_expire_after_days": 7,
        }.items()
    )


async def test_a_bucket_that_is_there_is_on_record_with_what_became_other(world: World) -> None:
    expected = world.fill({"a": Data(b"a")})
    world.target_shelf.make_bucket(TARGET_BUCKET)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, expected)
        (intended,) = await world.records(process.direct, "bucket.provision_intended")
        (provisioned,) = await world.records(process.direct, "bucket.provisioned")
    assert intended["exists"] is True
    assert provisioned["changed"] == [
        *("default_encryption", "policy", "public_access_blocked", "tags"),
        "unfinished_uploads_expire_after_days",
    ]


async def test_a_bucket_that_is_not_as_it_should_be_is_on_record_too(world: World) -> None:
    world.fill({"a": Data(b"a")})

    def forget() -> None:
        world.target_shelf.buckets[TARGET_BUCKET].default_encryption = Encryption("AES256")

    world.script.always("set_default_key").then(forget)
    async with world.process() as process:
        assert (await process.move()).held_reason == "drift"
        (provisioned,) = await world.records(process.direct, "bucket.provisioned")
    assert provisioned["found"]["default_encryption"] == {
        "algorithm": "AES256",
        "key": "",
        "bucket_key": False,
    }


async def test_uploads_that_are_given_up_before_the_switch_are_on_record(world: World) -> None:
    """Those of a daemon that died: its successor finds them."""
    expected = world.fill()
    world.script.on("put_part", key="c/6 MiB", times=6).fails(UnavailableError)
    world.script.always("abort_upload").fails(UnavailableError)
    world.script.on("list_uploads", bucket=TARGET_BUCKET).first(world.script.clear)
    async with world.process() as process:
        order = order_of(world, process)
        await process.move()
        await process.reached(FINAL)
        await world.assert_moved(process.direct, expected)
        (given_up,) = await world.records(process.direct, "uploads.abort_intended")
    assert given_up.items() >= {"bucket": TARGET_BUCKET, "uploads": 1, "tenant": TENANT}.items()
    assert len(given_up["sha256"]) == 64
    assert order[order.index("uploads.abort_intended") + 1] == "abort_upload"
