"""The grace: nobody is occupied by it, and yet a key that is switched off holds the job while nothing else happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from structlog.testing import capture_logs

from rekeyd.domain.job import Job
from tests.jobs.world import FINAL, SOURCE, TENANT, Process, World, eventually


async def until_waiting(world: World, process: Process) -> None:
    async def waiting() -> bool:
        job = await process.direct.job("job-1")
        return (job.state, job.phase) == ("running", "grace") and not await world.claimed()

    await eventually(waiting)


async def until_looked_at(world: World, times: int = 2) -> None:
    """The key is asked for so many times more."""
    wanted = len(world.metrics.key_checks) + times

    async def looked() -> bool:
        return len(world.metrics.key_checks) >= wanted

    await eventually(looked)


async def test_a_key_disabled_in_a_long_grace_holds_the_job_until_it_is_enabled(world: World) -> None:
    world.timings = replace(world.timings, held_recheck_seconds=0.1)
    objects = world.fill()
    async with world.process() as process:
        await world.admit(process.direct, grace_seconds=3600)
        async with process.working() as task:
            await until_waiting(world, process)
            world.disable_key()
            held = await process.reached(("held", *FINAL), task=task)
            assert (held.state, held.held_reason, held.phase) == ("held", "key_disabled", "grace")
            assert await world.key_state(process.direct) == "unavailable"

            await until_looked_at(world)
            assert (await process.direct.job("job-1")).state == "held"
            assert world.script.count("delete", SOURCE.bucket) == 0

            world.enable_key()
            await until_waiting(world, process)
            assert await world.key_state(process.direct) == "active"
            await world.rewind(3601)
            await process.reached(FINAL, task=task)
        await world.assert_moved(process.direct, objects)


async def test_looking_at_key_and_bucket_in_a_grace_changes_nothing_and_leaves_no_trace(world: World) -> None:
    world.timings = replace(world.timings, held_recheck_seconds=0.1)
    world.fill()
    async with world.process() as process:
        await world.admit(process.direct, grace_seconds=3600)
        async with process.working():
            await until_waiting(world, process)
            with capture_logs() as logged:
                calls, actions = len(world.script.calls), Counter(await world.actions(process.direct))
                looks = {"describe", "describe_rules"}
                await until_looked_at(world, 4)
                await until_waiting(world, process)
                asked = {call.operation for call in world.script.calls[calls:]}
                assert asked == looks, "no object is asked for, and nothing is written"
                assert Counter(await world.actions(process.direct)) == actions, "no record is made"
            assert {line["log_level"] for line in logged} == {"debug"}
            job: Job = await process.direct.job("job-1")
            record, _ = await process.direct.placement(TENANT)
    assert (job.state, job.phase, job.attempts) == ("running", "grace", 0)
    assert record is not None
    assert record.phase == "dedicated"
