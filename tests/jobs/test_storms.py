"""What fails for every object holds the job after a bounded number of requests; mended, the job goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from rekeyd.domain.errors import UnavailableError
from rekeyd.domain.objects import OWN_PREFIX
from rekeyd.ledger import rows
from rekeyd.ledger.sql import passes
from tests.doubles.faulty import Call
from tests.doubles.mortal import DiedError, Life
from tests.jobs.world import FINAL, SOURCE, TARGET_BUCKET, Data, World, eventually

REQUESTS_MAX = 3
"""How often the world's stores are asked for the same before an object has failed."""


def many(count: int) -> dict[str, Data]:
    return {f"{number:03}": Data(b"data") for number in range(count)}


async def not_a_tenants(call: Call) -> None:
    """The store fails for whatever isn't rekeyd's own."""
    if not call.keys[0].startswith(OWN_PREFIX):
        raise UnavailableError(call.operation, "scripted")


def tried(world: World, operation: str) -> list[str]:
    """The tenant's keys for which the target was asked, each once for all its repetitions."""
    calls = [
        call for call in world.script.calls if (call.operation, call.bucket) == (operation, TARGET_BUCKET)
    ]
    names = [call.keys[0] for call in calls if not call.keys[0].startswith(OWN_PREFIX)]
    return names[::REQUESTS_MAX]


@pytest.mark.parametrize("segment_objects_max", [2, 1000])
async def test_a_target_that_takes_nothing_holds_the_job_before_the_listing_is_gone_through(
    world: World, monkeypatch: pytest.MonkeyPatch, segment_objects_max: int
) -> None:
    monkeypatch.setattr(rows, "SEGMENT_OBJECTS_MAX", segment_objects_max)
    objects = world.fill(many(100))

    world.script.always("put", bucket=TARGET_BUCKET).first_await(not_a_tenants)
    async with world.process() as process:
        in_flight = process.tools.objects_in_flight_max
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "store_unavailable")
        assert len(tried(world, "put")) <= 2 * in_flight, "those in a row, and those under way then"
        first = tried(world, "put")
    await world.make_due()
    async with world.process() as process:  # looked at again while the target is as it was

        async def held_again() -> bool:
            return tried(world, "put") != first and not await world.claimed()

        async with process.working():
            await eventually(held_again)
        assert (await process.direct.job("job-1")).state == "held"
        assert len(tried(world, "put")) <= 4 * in_flight
    world.script.clear()
    await world.expire_leases()
    await world.make_due()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)


async def test_objects_that_fail_among_others_that_do_not_are_no_outage(world: World) -> None:
    objects = world.fill(many(30))
    for number in range(0, 30, 6):
        world.script.on("put", bucket=TARGET_BUCKET, key=f"{number:03}", times=3).fails(UnavailableError)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)


async def test_a_target_that_drops_nothing_holds_the_job_at_the_first_copies(world: World) -> None:
    objects = world.fill(many(60))

    def remove_most() -> None:
        for name in [*objects][1:]:
            world.remove(name)

    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(remove_most)
    world.script.always("delete", bucket=TARGET_BUCKET).first_await(not_a_tenants)
    async with world.process() as process:
        in_flight = process.tools.objects_in_flight_max
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "store_unavailable"), job
        assert len(tried(world, "delete")) <= 2 * in_flight
    world.script.clear()
    await world.expire_leases()
    await world.make_due()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, {"000": objects["000"]})


async def test_more_may_vanish_than_is_settled_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "ROWS_READ_MAX", 3)
    objects = world.fill(many(20))

    def remove_most() -> None:
        for name in [*objects][1:]:
            world.remove(name)

    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(remove_most)
    life = Life()
    async with world.process(life=life) as process:
        process.seen_ledger.after["settle_missing"] = _dies(life)
        await world.admit(process.direct)
        with pytest.raises(BaseExceptionGroup) as died:
            await process.worker.run()
        assert died.group_contains(DiedError)
    await world.expire_leases()
    async with world.process("daemon-2") as process:
        await process.work()
        await world.assert_moved(process.direct, {"000": objects["000"]})


def _dies(life: Life) -> Callable[[object], Awaitable[None]]:
    async def die(_answer: object) -> None:
        life.die()

    return die
