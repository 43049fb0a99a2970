"""A former key is archived only where nothing can come under it any more, and can be proven unreadable after that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.domain.errors import AccessDeniedError, UnavailableError
from rekeyd.domain.objects import Attributes, Encryption, ObjectLock
from rekeyd.jobs.canaries import key_canary
from rekeyd.stores.content import BytesContent
from rekeyd.stores.memory import MemoryStore
from rekeyd.stores.port import IfAbsent, UnderKey, Upload
from tests.doubles.claim import Claim
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_rotate import (
    ROTATE,
    assert_rotated,
    keys_in_use,
    moved,
    policy_names,
    rotated,
    states_of,
)
from tests.jobs.world import ANOTHER_KEY, KEY, SETTLED, TARGET_BUCKET, Data, World, eventually


class Writer:
    """A writer that still names the former key although every record that named it has expired."""

    def __init__(self, world: World) -> None:
        self.store = MemoryStore(world.target_shelf, name="s4")
        self.claim = Claim()
        self.uploads: list[Upload] = []

    async def begin(self, _call: object = None) -> None:
        self.uploads.append(
            await self.store.begin_upload(
                TARGET_BUCKET, "late", Attributes(), under=UnderKey(KEY.arn), claim=self.claim
            )
        )

    async def complete(self) -> None:
        (upload,) = self.uploads
        part = await self.store.put_part(upload, 1, BytesContent(b"late"), claim=self.claim)
        await self.store.complete_upload(
            upload, [part], condition=IfAbsent(), crc64nvme=None, claim=self.claim
        )


@pytest.mark.parametrize("when", ["before the policy is narrowed", "before that is read back"])
async def test_an_upload_begun_while_the_former_key_could_still_be_named_keeps_it_from_being_archived(
    world: World, when: str
) -> None:
    writer = Writer(world)
    world.timings = replace(world.timings, held_recheck_seconds=0.05)
    async with world.process() as process:
        objects = await moved(world, process)
        narrowing = world.script.on("set_policy", bucket=TARGET_BUCKET, nth=2)
        if when == "before the policy is narrowed":
            narrowing.first_await(writer.begin)
        else:
            narrowing.then_await(writer.begin)
        await world.rotate(process.direct)

        async def waits() -> bool:
            job = await process.direct.job(ROTATE)
            found = (job.result or {}).get("unfinished_uploads")
            return bool(writer.uploads) and job.phase == "reencrypt" and found == 1

        async with process.working() as task:
            await eventually(waits)
            assert not policy_names(world, KEY)
            assert (await states_of(process))[KEY.arn] == "active"
            await writer.complete()
            await process.reached(SETTLED, ROTATE, task=task)
        await assert_rotated(world, process, objects | {"late": Data(b"late")})


async def test_only_redirected_the_former_key_stays_in_use_with_such_an_upload(world: World) -> None:
    writer = Writer(world)
    async with world.process() as process:
        await moved(world, process, {})
        world.script.on("set_policy", bucket=TARGET_BUCKET, nth=2).first_await(writer.begin)
        job = await rotated(world, process, reencrypt="new")
        assert job.state == "completed"
        assert job.result is not None
        assert job.result["unfinished_uploads"] == 1
        assert (await states_of(process))[KEY.arn] == "active"


async def test_uploads_begun_once_only_the_new_key_can_be_named_are_not_waited_for(world: World) -> None:
    writer = Writer(world)
    async with world.process() as process:
        objects = await moved(world, process)
        world.script.on("copy", bucket=TARGET_BUCKET, key="z").first_await(writer.begin)
        await rotated(world, process)
        world.target_shelf.uploads.clear()
        await assert_rotated(world, process, objects)


async def test_a_policy_that_is_not_narrowed_although_it_was_set_holds_the_rotation(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        kept = world.target_shelf.buckets[TARGET_BUCKET]
        both: dict[str, object] = {}
        world.script.on("set_policy", bucket=TARGET_BUCKET).then(lambda: both.update(kept.policy))
        world.script.on("set_policy", bucket=TARGET_BUCKET, nth=2).then(
            lambda: setattr(kept, "policy", dict(both))
        )
        job = await rotated(world, process)
        assert (job.state, job.held_reason) == ("held", "drift")
        assert (await states_of(process))[KEY.arn] == "active"


async def test_the_canary_of_an_archived_key_stays_while_older_versions_lie_under_it(
    make_world: MakeWorld,
) -> None:
    """By it alone a later revocation proves that they can't be read."""
    world = make_world(versioned=True)
    world.put_versions("grown", Data(b"first"), Data(b"second"))
    async with world.process() as process:
        await process.move()
        world.use_another_key()
        job = await rotated(world, process)
        assert (job.state, await states_of(process)) == (
            "completed",
            {KEY.arn: "archived", ANOTHER_KEY.arn: "active"},
        )
        canary = world.target_shelf.buckets[TARGET_BUCKET].objects[key_canary(KEY.arn)]
        assert canary.encryption == Encryption("aws:kms", KEY.arn)
        assert job.result is not None
        assert job.result["canaries_kept"] == [KEY.arn]

        # The switch says that the archived key is off, and yet it can be read under it.
        world.custody.switched = lambda arn, _state: (
            None if arn == KEY.arn else world.target_shelf.disabled_keys.add(arn)
        )
        world.script.always("set_policy", bucket=TARGET_BUCKET).fails(AccessDeniedError)
        await world.revoke(process.direct)
        held = await process.work("revoke-1", until=("held",))
        assert held.held_reason == "still_readable"


async def test_a_canary_that_a_lock_protects_stays_and_is_said(make_world: MakeWorld) -> None:
    """The bucket's default retention locks whatever is written there."""
    world = make_world(versioned=True, object_lock=True)
    world.put("z", Data(b"last"))
    async with world.process() as process:
        await process.move()
        world.use_another_key()
        world.make_store = lambda shelf, name: MemoryStore(shelf, name=name, updates_keys_of="111122223333")

        def lock() -> None:
            objects = world.target_shelf.buckets[TARGET_BUCKET].objects
            found = objects[key_canary(KEY.arn)]
            lock = ObjectLock("COMPLIANCE", "2999-01-01T00:00:00Z")
            objects.replace(
                key_canary(KEY.arn), replace(found, attributes=replace(found.attributes, lock=lock))
            )

        world.script.on("put", bucket=TARGET_BUCKET, key=key_canary(KEY.arn)).then(lock)
        async with world.process("another") as other:
            job = await rotated(world, other)
            assert (job.state, job.phase) == ("completed", "done"), job
            assert (await states_of(other))[KEY.arn] == "archived"
        assert keys_in_use(world)["tenant's"] == {ANOTHER_KEY.arn}
        assert "canary" in (job.error or "")
        assert job.result is not None
        assert job.result["canaries_kept"] == [KEY.arn]


async def test_a_canary_whose_removal_is_not_answered_is_removed_once_it_is(world: World) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
        world.script.on("delete", bucket=TARGET_BUCKET, key=key_canary(KEY.arn), times=3).fails(
            UnavailableError
        )
        world.timings = replace(world.timings, held_recheck_seconds=0.05)
    async with world.process() as process:
        await world.rotate(process.direct)
        await process.work(ROTATE, until=("completed", "failed"))
        await assert_rotated(world, process, objects)
