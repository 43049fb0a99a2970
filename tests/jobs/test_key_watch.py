"""The watch: a key that can't be used any more, or is about to be lost, and a bucket that isn't as it was made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest
from structlog.testing import capture_logs

from rekeyd.domain.errors import UnavailableError
from rekeyd.domain.objects import Encryption
from rekeyd.jobs.key_watch import KeyWatch
from tests.jobs.world import KEY, TARGET_BUCKET, TENANT, Process, World, eventually


async def look(process: Process) -> list[str]:
    """What the watch says after one look at everything."""
    with capture_logs() as logged:
        await KeyWatch(process.tools, "daemon-1").look()
    return [line["event"] for line in logged]


async def state_of(process: Process) -> str:
    (key,) = await process.direct.tenant_keys()
    return key.state


async def test_a_key_without_a_job_is_seen_to_be_unavailable_and_available_again(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        assert await look(process) == []
        world.disable_key()
        assert await look(process) == ["key_unavailable"]
        assert await state_of(process) == "unavailable"
        assert await look(process) == [], "it is no news any more"
        world.enable_key()
        assert await look(process) == ["key_available"]
        assert await state_of(process) == "active"
        records = [each for each in await world.records(process.direct, "key.state") if each["job"] is None]
        assert [(each["actor"], each["former"], each["outcome"]) for each in records] == [
            ("daemon-1", "active", "unavailable"),
            ("daemon-1", "unavailable", "active"),
        ]
        assert records[0]["reason"].startswith("key_disabled")


async def test_a_key_about_to_be_deleted_is_said_every_time(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        world.custody.keys[KEY.arn].state = "PendingDeletion"
        assert await look(process) == ["key_endangered", "key_unavailable"]
        assert await look(process) == ["key_endangered"]


async def test_a_key_about_to_be_deleted_is_on_record_once(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        world.custody.keys[KEY.arn].state = "PendingDeletion"
        watch = KeyWatch(process.tools, "daemon-1")
        for _ in range(3):
            await watch.look()
        (record,) = await world.records(process.direct, "key.endangered")
        assert (record["actor"], record["tenant"], record["key"]) == ("daemon-1", TENANT, KEY.arn)
        assert record["outcome"] == "key_pending_deletion"
        await world.assert_trail(process.direct)


async def test_a_key_service_that_says_nothing_is_no_verdict(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        world.custody.unreachable = True
        assert await look(process) == ["key_not_looked_at"]
        assert await state_of(process) == "active"


async def test_a_revoked_key_is_nobodys_news(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        await world.revoke(process.direct)
        await process.work("revoke-1")
        assert await look(process) == []
        assert await state_of(process) == "revoked"


async def in_grace(process: Process) -> bool:
    return (await process.direct.job("job-1")).phase == "grace"


DRIFTS = {
    "another default key": lambda bucket: setattr(bucket, "default_encryption", Encryption("AES256")),
    "no tag": lambda bucket: setattr(bucket, "tags", {}),
    "public": lambda bucket: setattr(bucket, "public_access_blocked", False),
    "no policy": lambda bucket: setattr(bucket, "policy", {}),
    "suspended": lambda bucket: setattr(bucket.objects, "versioning", "suspended"),
}


@pytest.mark.parametrize("drift", DRIFTS)
async def test_a_bucket_that_is_not_as_it_was_made_is_said_and_holds_what_would_delete(
    world: World, drift: str
) -> None:
    objects = world.fill()
    async with world.process() as process:
        world.timings = replace(world.timings, held_recheck_seconds=0.05)
        await world.admit(process.direct, grace_seconds=3600)
        async with process.working():
            await eventually(partial(in_grace, process))
        assert await look(process) == []
        bucket = world.target_shelf.buckets[TARGET_BUCKET]
        DRIFTS[drift](bucket)
        await world.rewind(3700)
        held = await process.work(until=("held",))
        assert held.held_reason == "drift"
        assert TARGET_BUCKET in (held.error or "")
        assert sorted(world.in_source()) == sorted(objects)
        assert "bucket_drift" in await look(process)


async def test_drift_while_the_source_is_kept_holds_the_job_at_once_and_lets_it_go_on_once_mended(
    world: World,
) -> None:
    world.fill()
    world.timings = replace(world.timings, held_recheck_seconds=0.05)
    async with world.process() as process:
        await world.admit(process.direct, grace_seconds=3600)
        async with process.working() as task:
            await eventually(partial(in_grace, process))
            bucket = world.target_shelf.buckets[TARGET_BUCKET]
            bucket.public_access_blocked = False
            held = await process.reached(("held",), task=task)
            assert held.held_reason == "drift"
            bucket.public_access_blocked = True
            await process.reached(("running",), task=task)


async def test_drift_while_sources_are_deleted_stops_that(world: World) -> None:
    objects = world.fill()
    deleting = asyncio.Event()
    world.script.on("delete").hangs(deleting)
    async with world.process() as process:
        await world.admit(process.direct)
        async with process.working() as task:
            await deleting.wait()
            world.target_shelf.buckets[TARGET_BUCKET].policy = {}
            held = await process.reached(("held", "completed"), task=task)
        assert (held.state, held.held_reason) == ("held", "drift")
        assert sorted(world.in_source()) == sorted(objects)


async def test_drift_of_a_tenant_without_a_job_is_said_once_and_counted_every_time(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        watch, bucket = KeyWatch(process.tools, "daemon-1"), world.target_shelf.buckets[TARGET_BUCKET]
        said = []
        for blocked in (True, False, False, True, True):
            bucket.public_access_blocked = blocked
            with capture_logs() as logged:
                await watch.look()
            said.append([line["event"] for line in logged])
        assert said == [[], ["bucket_drift"], [], ["bucket_drift_over"], []]
        assert world.metrics.key_checks.count("bucket_drift") == 2
        outcomes = [each["outcome"] for each in await world.records(process.direct, "bucket.drift")]
        assert outcomes == ["public access to byok-acme isn't blocked", "over"]


async def test_a_bucket_that_says_nothing_is_looked_at_again(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        world.script.on("describe", bucket=TARGET_BUCKET, times=3).fails(UnavailableError)
        assert await look(process) == ["bucket_not_looked_at"]
        assert await look(process) == []


async def test_it_looks_again_and_again_until_it_is_stopped(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        watching = asyncio.create_task(KeyWatch(process.tools, "daemon-1").run())
        before = world.custody.descriptions

        async def looked_three_times() -> bool:
            return world.custody.descriptions >= before + 3

        await eventually(looked_three_times)
        watching.cancel()
        await asyncio.wait({watching})
        assert watching.cancelled()
