"""A daemon that is fenced out goes on until it notices. What it writes or makes by then is closed all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from rekeyd.domain.bucket_policy import refusal, with_refusal
from rekeyd.domain.job import Job
from tests.jobs.test_revoke import REINSTATE, REVOKE, assert_bucket_closed, ended
from tests.jobs.world import SOURCE, TARGET_BUCKET, Process, World, eventually


@pytest.fixture(autouse=True)
def _patient_calls(world: World) -> None:
    """A call that was begun may end seconds later, well within its claim's lease."""
    world.timings = replace(world.timings, lease_seconds=9.0, call_seconds_max=5.0)


class CutOff(dict[str, Callable[[], Awaitable[None]]]):
    """Before each call of the ledger, whatever it is called: it is out of reach until it is `over`."""

    def __init__(self) -> None:
        super().__init__()
        self.over = asyncio.Event()

    def __contains__(self, _name: object) -> bool:
        return True

    def __missing__(self, _name: str) -> Callable[[], Awaitable[None]]:
        return self._wait

    async def _wait(self) -> None:
        await self.over.wait()


@asynccontextmanager
async def lingering(world: World, process: Process, operation: str) -> AsyncIterator[asyncio.Event]:
    """A daemon without the ledger, amid such a call on the dedicated bucket; it goes on when the event is set.

    The keys are the tenant's own, so that they stay enabled: the policy is the only lock.
    """
    world.custody.foreign |= set(world.custody.keys)
    arrived, goes_on = asyncio.Event(), asyncio.Event()

    async def stall(_call: object) -> None:
        arrived.set()
        await goes_on.wait()

    world.script.on(operation, bucket=TARGET_BUCKET).first_await(stall)
    async with process.working():
        await arrived.wait()
        process.seen_ledger.before = cut_off = CutOff()
        try:
            yield goes_on
        finally:
            cut_off.over.set()


async def revoked_meanwhile(world: World, other: Process, goes_on: asyncio.Event) -> Job:
    """Revoked by another daemon, and effective, before the lingering one goes on; as it is in the end."""
    await world.revoke(other.direct)
    async with other.working():

        async def is_effective() -> bool:
            return "effective_seconds" in ((await other.direct.job(REVOKE)).result or {})

        await eventually(is_effective)
        goes_on.set()
        return await other.reached(("completed", "failed", "held"), REVOKE)


@pytest.mark.parametrize("operation", ["set_policy", "create"])
async def test_what_a_migration_opens_or_makes_before_it_notices_is_closed_before_anything_is_called_done(
    world: World, operation: str
) -> None:
    """`set_policy`: its policy was made of one without the refusal. `create`: there was no bucket to be closed."""
    objects = world.fill()
    async with world.process() as process, world.process("daemon-2") as other:
        await world.admit(process.direct)
        async with lingering(world, process, operation) as goes_on:
            done = await revoked_meanwhile(world, other, goes_on)
        assert (done.state, done.held_reason) == ("held", "readable_elsewhere")
        assert str(SOURCE) in (done.error or "")
        assert done.result is not None
        assert done.result["closed_again"] == [TARGET_BUCKET]
        assert world.script.count("set_policy") == (3 if operation == "set_policy" else 2)
        assert_bucket_closed(world)
        (again,) = await world.records(other.direct, "revocation.closed_again")
        assert again["closed_again"] == [TARGET_BUCKET]
        (effect,) = await world.records(other.direct, "revocation.effective")
        assert effect["effective_seconds"] < world.timings.lease_seconds

    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)
    async with world.process() as process:
        await world.reinstate(process.direct)
        await ended(process, REINSTATE)
        await process.work()
        await world.assert_moved(process.direct, objects)


async def test_what_a_rotation_allows_before_it_notices_is_closed_again(world: World) -> None:
    world.fill()
    async with world.process() as process, world.process("daemon-2") as other:
        await process.move()
        world.use_another_key()
        await world.rotate(process.direct)
        async with lingering(world, process, "set_policy") as goes_on:
            done = await revoked_meanwhile(world, other, goes_on)
        assert done.state == "completed"
        assert done.result is not None
        assert done.result["closed_again"] == [TARGET_BUCKET]
        assert_bucket_closed(world)


@pytest.mark.parametrize("kind", ["migrate", "rotate"])
async def test_a_bucket_that_refuses_everybody_is_opened_by_no_other_job_even_where_the_ledger_knows_nothing(
    world: World, kind: str
) -> None:
    """A restored ledger has forgotten the revocation; the bucket has not."""
    world.fill()
    async with world.process() as process:
        if kind == "rotate":
            await process.move()
            world.use_another_key()
            await world.rotate(process.direct)
            job_id = "rotate-1"
        else:
            world.target_shelf.make_bucket(TARGET_BUCKET)
            await world.admit(process.direct)
            job_id = "job-1"
        weakened = {**refusal(TARGET_BUCKET, "aws"), "Action": "s3:DeleteObject"}
        bucket = world.target_shelf.buckets[TARGET_BUCKET]
        bucket.policy = with_refusal(bucket.policy, weakened)
        written = world.script.count("set_policy")

        held = await process.work(job_id)

        assert (held.state, held.held_reason) == ("held", "revoked")
        assert world.script.count("set_policy") == written
        await world.revoke(process.direct)
        await process.work(REVOKE)
        assert_bucket_closed(world)
        await world.reinstate(process.direct)
        await process.work(REINSTATE)
        assert (await process.work(job_id)).state == "completed"
