"""A key that its provider rotates under the same ARN: recorded as a job, once, and nothing moves."""

from __future__ import annotations

import asyncio

import pytest

from rekeyd.domain.certificate import certificate_key
from rekeyd.domain.errors import LedgerError
from rekeyd.jobs.key_watch import KeyWatch
from tests.jobs.test_following import point, rotations, the_rotation
from tests.jobs.test_key_watch import look
from tests.jobs.test_rotate import ROTATE, moved
from tests.jobs.world import ANOTHER_KEY, KEY, Process, World


async def materials(world: World, process: Process) -> list[tuple[str | None, str]]:
    """What was recorded of a key's material: what it was before, what it is."""
    found = await world.records(process.direct, "key.material")
    return [(record.get("former"), record["outcome"]) for record in found]


async def test_a_key_that_its_provider_rotates_is_recorded_as_a_job_and_nothing_moves(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        assert await look(process) == []
        assert await rotations(process) == [], "nothing is known of before"
        before = len(world.script.mutations())
        world.custody.rotate(KEY.arn)

        assert await look(process) == ["rotation_enqueued"]
        assert await look(process) == [], "it is no news any more"

        job = await process.work((await the_rotation(process)).id)
        assert (job.state, job.admitted_by) == ("completed", "rekeyd")
        assert job.result == {"key": KEY.arn, "did": "rotated by its provider"}
        (written,) = world.script.mutations()[before:]
        assert written.keys == (certificate_key(job.id),), "its certificate, and nothing else"
        first, second = await materials(world, process)
        assert first[0] is None
        assert second == (first[1], world.custody.service.material_id(KEY.arn))
        await world.assert_trail(process.direct)


async def test_each_rotation_of_the_providers_is_a_job_of_its_own(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        for _ in range(3):
            await look(process)
            world.custody.rotate(KEY.arn)
        await look(process)
        assert len(await rotations(process)) == 3


async def test_two_daemons_that_look_at_the_same_enqueue_it_once(world: World) -> None:
    world.fill()
    async with world.process() as one, world.process("daemon-2") as two:
        await one.move()
        await look(one)
        world.custody.rotate(KEY.arn)
        await asyncio.gather(*(KeyWatch(each.tools, each.name).look() for each in (one, two)))
        job = await the_rotation(one)
        await one.work(job.id)

        point(world, ANOTHER_KEY)
        await asyncio.gather(*(KeyWatch(each.tools, each.name).look() for each in (one, two)))
        assert len(await rotations(one)) == 2


async def test_who_dies_between_asking_and_recording_sees_the_same_again(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        await look(process)
        world.custody.rotate(KEY.arn)

        async def dies(*_: object) -> None:
            raise LedgerError("died")

        vars(process.seen_ledger)["observe_material"] = dies
        with pytest.raises(LedgerError):
            await KeyWatch(process.tools, "daemon-1").look()
        assert len(await materials(world, process)) == 1
    async with world.process() as process:
        await look(process)
        await the_rotation(process)
        assert len(await materials(world, process)) == 2


async def test_a_service_that_does_not_tell_the_material_says_nothing_of_a_rotation(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        await look(process)
        world.custody.keys[KEY.arn].tells_material = False
        world.custody.rotate(KEY.arn)
        assert await look(process) == []
        assert await rotations(process) == []
        assert len(await materials(world, process)) == 1


async def test_of_a_key_that_is_not_in_use_any_more_its_rotation_is_only_recorded(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        await world.rotate(process.direct)
        await process.work(ROTATE)
        await look(process)
        world.custody.rotate(KEY.arn)
        assert await look(process) == []
        assert [job.id for job in await rotations(process)] == [ROTATE]
        assert len(await materials(world, process)) == 3
