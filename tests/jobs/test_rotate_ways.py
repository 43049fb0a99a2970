"""What a store can and can't do with an object where it stands: the way changes, the end of a rotation doesn't."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.domain.errors import AccessDeniedError
from rekeyd.domain.objects import Attributes, ObjectLock
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.port import ObjectStore
from tests.doubles.in_place import ChecksNothing, KeepsKeyInSelfCopy, KnowsNoSelfCopy, RefusesSelfCopy
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_rotate import EMPTY, assert_rotated, keys_in_use, moved, rotated, states_of
from tests.jobs.world import ANOTHER_KEY, KEY, TARGET_BUCKET, Data, World


@pytest.mark.parametrize("kind", [RefusesSelfCopy, KeepsKeyInSelfCopy])
async def test_what_a_store_does_not_copy_in_place_goes_through_us(
    world: World, kind: type[MemoryStore]
) -> None:
    async with world.process() as process:
        objects = await moved(world, process)

    def make(shelf: Shelf, name: str) -> ObjectStore:
        return kind(shelf, name=name)

    world.make_store = make
    async with world.process() as process:
        await rotated(world, process)
        await assert_rotated(world, process, objects)


async def test_nothing_is_overwritten_where_damage_on_the_way_would_be_taken(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
    world.make_store = lambda shelf, name: ChecksNothing(shelf, name=name)
    async with world.process() as process:
        job = await rotated(world, process)
        assert (job.state, job.held_reason) == ("held", "unmovable_objects")
        assert keys_in_use(world)["tenant's"] == {KEY.arn}


async def test_a_copy_in_place_that_a_store_does_not_know_goes_through_us_only_where_that_is_safe(
    world: World,
) -> None:
    async with world.process() as process:
        await moved(world, process)
    world.make_store = lambda shelf, name: KnowsNoSelfCopy(shelf, name=name)
    async with world.process() as process:
        job = await rotated(world, process)
        assert (job.state, job.held_reason) == ("held", "unmovable_objects")
        assert keys_in_use(world)["tenant's"] == {KEY.arn}


async def test_a_bucket_whose_versioning_is_suspended_is_not_rotated(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        world.target_shelf.buckets[TARGET_BUCKET].objects.versioning = "suspended"
        job = await rotated(world, process)
        assert (job.state, job.held_reason) == ("held", "drift")
        assert "suspended" in (job.error or "")
        assert keys_in_use(world)["tenant's"] == {KEY.arn}


async def test_older_versions_stay_under_the_archived_key_and_are_counted(make_world: MakeWorld) -> None:
    world = make_world(versioned=True)
    world.put_versions("grown", Data(b"first"), Data(b"second"))
    world.put_versions("hidden", Data(b"hidden"), None)
    async with world.process() as process:
        await process.move()
        world.use_another_key()
        job = await rotated(world, process)
        assert (job.state, job.phase) == ("completed", "done"), job
        chain = world.target_shelf.buckets[TARGET_BUCKET].objects.chain("grown")
        assert [(each.data, each.encryption.key) for each in chain] == [
            (b"first", KEY.arn),
            (b"second", KEY.arn),
            (b"second", ANOTHER_KEY.arn),
        ]
        assert world.target_shelf.buckets[TARGET_BUCKET].objects.chain("hidden")[-1].marker
        assert keys_in_use(world)["tenant's"] == {ANOTHER_KEY.arn}
        assert job.result is not None
        under = job.result["under_former_keys"]
        assert isinstance(under, dict)
        assert under[KEY.arn]["current"] == 0
        assert under[KEY.arn]["noncurrent"] >= 3
        assert "older versions stay under" in (job.error or "")
        assert await states_of(process) == {KEY.arn: "archived", ANOTHER_KEY.arn: "active"}


def updating(shelf: Shelf, name: str) -> ObjectStore:
    """As S3 documents UpdateObjectEncryption: another key where the version is, its ETag and its time as they were."""
    return MemoryStore(shelf, name=name, updates_keys_of="111122223333")


async def test_where_the_store_updates_encryption_older_versions_follow_and_nothing_moves(
    make_world: MakeWorld,
) -> None:
    world = make_world(versioned=True, object_lock=True)
    world.put_versions("grown", Data(b"first"), Data(b"second"))
    world.put_versions("hidden", Data(b"hidden"), None)
    locked = Attributes(lock=ObjectLock("GOVERNANCE", "2999-01-01T00:00:00Z"))
    world.put("locked", Data(b"locked", locked))
    async with world.process() as process:
        await process.move()
    world.use_another_key()
    world.make_store = updating
    chains = world.target_shelf.buckets[TARGET_BUCKET].objects
    before = {key: [each.version_id for each in chains.chain(key)] for key in ("grown", "hidden")}
    async with world.process() as process:
        job = await rotated(world, process)

        assert (job.state, job.phase) == ("completed", "done"), job
        after = {key: [each.version_id for each in chains.chain(key)] for key in ("grown", "hidden")}
        assert after == before
        for key in before:
            assert {each.encryption.key for each in chains.chain(key) if not each.marker} == {ANOTHER_KEY.arn}
        # What is locked is never updated: a copy of it, locked as it was, is the current version.
        former, current = chains.chain("locked")
        assert (former.encryption.key, current.encryption.key) == (KEY.arn, ANOTHER_KEY.arn)
        assert current.attributes.lock == former.attributes.lock == locked.lock
        assert job.result is not None
        under = job.result["under_former_keys"]
        assert isinstance(under, dict)
        assert (under[KEY.arn]["current"], await states_of(process)) == (
            0,
            {KEY.arn: "archived", ANOTHER_KEY.arn: "active"},
        )


async def test_an_update_that_is_refused_gives_way_to_a_copy(world: World) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
    world.make_store = updating
    world.script.always("update_encryption", bucket=TARGET_BUCKET).fails(AccessDeniedError)
    async with world.process() as process:
        await rotated(world, process)
        await assert_rotated(world, process, objects)


async def test_what_lies_in_an_archive_stays_under_the_former_key_which_isnt_archived(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        objects = world.target_shelf.buckets[TARGET_BUCKET].objects
        objects.replace("z", replace(objects["z"], attributes=Attributes(storage_class="GLACIER")))
        job = await rotated(world, process)
        assert (job.state, job.phase) == ("completed", "done"), job
        assert job.result is not None
        under = job.result["under_former_keys"]
        assert isinstance(under, dict)
        assert under[KEY.arn] == EMPTY | {"current": 1, "lasting": 1, "bytes": 4, "shown": ["z"]}
        assert "1 objects" in (job.error or "")
        assert await states_of(process) == {KEY.arn: "active", ANOTHER_KEY.arn: "active"}
