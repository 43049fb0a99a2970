"""The canary tells the bucket that was provisioned from another one of its name, settings and tags."""

from __future__ import annotations

import pytest

from rekeyd.domain.errors import UnavailableError
from rekeyd.domain.objects import Encryption
from rekeyd.jobs.preflight import TENANT_TAG
from rekeyd.jobs.provision import CANARY_KEY
from rekeyd.ledger.port import Ledger
from tests.doubles.mortal import DiedError, Life
from tests.jobs.world import FINAL, KEY, SOURCE, TARGET_BUCKET, TENANT, Data, World


def make_anew(world: World) -> None:
    """The bucket is deleted, and made again by whoever keeps its description: name, tags, key."""
    del world.target_shelf.buckets[TARGET_BUCKET]
    world.target_shelf.make_bucket(TARGET_BUCKET)
    bucket = world.target_shelf.buckets[TARGET_BUCKET]
    bucket.tags = {TENANT_TAG: TENANT}
    bucket.default_encryption = Encryption("aws:kms", KEY.arn)
    bucket.public_access_blocked = True


def canary(world: World) -> bytes:
    return world.target_shelf.buckets[TARGET_BUCKET].objects[CANARY_KEY].data


def canary_puts(world: World) -> int:
    return sum(call.operation == "put" and call.keys == (CANARY_KEY,) for call in world.script.calls)


async def phase(ledger: Ledger) -> str:
    record, _ = await ledger.placement(TENANT)
    assert record is not None
    return record.phase


async def test_a_target_made_anew_between_two_attempts_is_not_taken_for_the_provisioned_one(
    world: World,
) -> None:
    objects = world.fill()
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2, times=None).fails(UnavailableError)
    async with world.process() as process:
        assert (await process.move()).held_reason == "store_unavailable"
        assert set(world.in_target()) == set(objects)
    world.script.clear()
    make_anew(world)
    changed = len(world.script.mutations())
    async with world.process() as process:
        await process.direct.resume_job("job-1", "an operator")
        job = await process.work()
        assert (job.state, job.held_reason) == ("held", "drift")
        assert "isn't the bucket that was provisioned" in str(job.error)
        assert await phase(process.direct) == "shared"
        await world.make_due()
        assert await process.direct.claim_job("daemon-2", 1.0) is None, "a person's to decide"
    assert len(world.script.mutations()) == changed
    assert set(world.in_source()) == set(objects)


async def test_a_target_made_anew_while_copying_is_not_switched_to(world: World) -> None:
    objects = world.fill()
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(lambda: make_anew(world))
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason, job.phase) == ("held", "drift", "pause")
        assert await phase(process.direct) == "shared"
    assert set(world.in_source()) == set(objects)


async def test_a_canary_of_the_tenants_own_with_another_value_is_another_buckets(world: World) -> None:
    world.fill()
    encryption = Encryption("aws:kms", KEY.arn)
    other = Data(f"rekeyd canary of {TENANT} 0123456789abcdef".encode())
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(
        lambda: world.put_into(world.target_shelf, TARGET_BUCKET, CANARY_KEY, other, encryption)
    )
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "drift")
    assert canary(world) == other.content


async def test_the_canary_is_written_once_and_then_only_read(world: World) -> None:
    objects = world.fill()
    world.script.on("list_page", bucket=SOURCE.bucket, times=3).fails(UnavailableError)
    async with world.process() as process:
        assert (await process.move()).held_reason == "store_unavailable"
        written = canary(world)
    async with world.process() as process:
        await world.make_due()
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)
    assert canary_puts(world) == 1
    assert canary(world) == written


async def test_a_canary_whose_answer_was_lost_is_found_by_reading(world: World) -> None:
    objects = world.fill()
    lost = world.script.on("put", key=CANARY_KEY).loses_answer(UnavailableError)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)
    assert lost.applied == 1


@pytest.mark.parametrize("call", ["ledger.keep_canary", "put"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_death_around_the_first_canary_costs_nothing(world: World, call: str, moment: str) -> None:
    objects = world.fill()
    life = Life()

    async def die(_: object = None) -> None:
        life.die()

    async with world.process(life=life) as process:
        if call == "put":
            fault = world.script.on("put", key=CANARY_KEY)
            fault.first_await(die) if moment == "before" else fault.then(life.die)
        elif moment == "before":
            process.seen_ledger.before["keep_canary"] = die
        else:
            process.seen_ledger.after["keep_canary"] = die
        await world.admit(process.direct)
        with pytest.raises(BaseExceptionGroup) as died:
            await process.worker.run()
        assert died.group_contains(DiedError)
    await world.expire_leases()
    world.script.clear()
    async with world.process("daemon-2") as process:
        await process.work()
        await world.assert_moved(process.direct, objects)


async def test_under_another_key_the_same_canary_is_written_again(world: World) -> None:
    objects = world.fill()
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2, times=None).fails(UnavailableError)
    async with world.process() as process:
        await process.move()
        written = canary(world)
        await process.direct.cancel_job("job-1", "an operator")
    world.script.clear()
    await world.expire_leases()
    world.use_another_key()
    async with world.process() as process:
        await world.admit(process.direct, "job-2")
        await process.work("job-2")
        await world.assert_moved(process.direct, objects, "job-2")
    assert canary_puts(world) == 2
    assert canary(world) == written
    assert world.target_shelf.buckets[TARGET_BUCKET].objects[CANARY_KEY].encryption.key == world.key.arn
