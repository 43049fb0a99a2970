"""A job's own calls that got no answer keep its lease: nobody goes on with its tenant before they have ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rekeyd.domain.errors import UnavailableError
from tests.jobs.world import FINAL, TARGET_BUCKET, TENANT, Data, World, eventually


@pytest.fixture(autouse=True)
def _short_leases(world: World) -> None:
    world.timings = replace(world.timings, lease_seconds=3.0, call_seconds_max=1.5)


async def leased(world: World) -> bool:
    ((left,),) = await world._sql(
        "SELECT count(*) FROM jobs WHERE lease_expires_at > (julianday('now') - 2440587.5) * 86400.0"
    )
    return bool(left)


async def test_a_default_key_that_is_set_late_does_not_replace_the_next_jobs(world: World) -> None:
    """The first job is held and cancelled, the next one has another key: whose is provisioned and proven last."""
    objects = world.fill({"a": Data(b"data"), "b": Data(b"data")})
    lands = asyncio.Event()
    late = world.script.on("set_default_key", bucket=TARGET_BUCKET, times=3)
    late.acts_later(lands)
    async with world.process() as process:
        await world.admit(process.direct)
        job = await process.work()
        assert (job.state, job.held_reason) == ("held", "store_unavailable")
        assert await leased(world)
        await process.direct.cancel_job("job-1", "an operator")
        world.use_another_key()
        await world.admit(process.direct, "job-2")
    async with world.process("daemon-2") as process:
        asyncio.get_running_loop().call_later(0.7, lands.set)
        await process.work("job-2", until=FINAL)
        await late.acted.wait()
        await world.assert_moved(process.direct, objects, "job-2")
    assert world.target_shelf.buckets[TARGET_BUCKET].default_encryption.key == world.key.arn


async def test_a_held_job_whose_call_got_no_answer_is_taken_up_once_its_lease_has_run_out(
    world: World,
) -> None:
    objects = world.fill({"a": Data(b"data")})
    world.script.on("set_default_key", bucket=TARGET_BUCKET, times=3).acts_later(asyncio.Event())
    async with world.process() as process:
        await world.admit(process.direct)
        async with process.working() as task:
            await process.reached(("held",), task=task)
            await world.make_due()
            assert await process.direct.claim_job("daemon-2", 1.0) is None, "due, and not settled"
            await process.reached(FINAL, task=task)
        await world.assert_moved(process.direct, objects)


async def test_a_daemon_that_stops_leaves_a_job_with_an_unanswered_call_to_its_lease(world: World) -> None:
    objects = world.fill({"a": Data(b"data")})
    async with world.process() as process:
        unanswered = world.script.on("set_default_key", bucket=TARGET_BUCKET)
        unanswered.first(process.worker.stop).acts_later(asyncio.Event())
        await world.admit(process.direct)
        async with process.working() as task:
            await asyncio.wait({task})
        assert (await process.direct.job("job-1")).state == "running"
        assert await leased(world)
        assert await process.direct.claim_job("daemon-2", 1.0) is None
    async with world.process("daemon-2") as process:
        await process.work()
        await world.assert_moved(process.direct, objects)


async def test_a_job_whose_calls_were_all_answered_is_due_at_once(world: World) -> None:
    world.fill({"a": Data(b"data")})
    world.script.on("set_default_key", bucket=TARGET_BUCKET, times=3).fails(UnavailableError)
    async with world.process() as process:
        await world.admit(process.direct)
        job = await process.work()
        assert (job.state, job.held_reason) == ("held", "store_unavailable")

        async def given_up() -> bool:
            return not await leased(world)

        await eventually(given_up, 1.0)
        record, _ = await process.direct.placement(TENANT)
        assert record is not None
        assert record.phase == "shared"
