"""A segment that can't be worked on in another process: whoever holds the job learns it by way of the ledger."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from rekeyd.domain.errors import KeyUnusableError, UnavailableError
from rekeyd.jobs import refusals
from rekeyd.ledger import rows
from tests.jobs.world import FINAL, TARGET_BUCKET, Data, Process, World, eventually


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two objects a segment."""
    monkeypatch.setattr(rows, "SEGMENT_OBJECTS_MAX", 2)


async def _none(*_: object) -> None:
    return None


@asynccontextmanager
async def owner_and_worker(world: World) -> AsyncGenerator[tuple[Process, Process]]:
    """One process has the jobs, the other one the segments."""
    async with world.process("daemon-1") as owner, world.process("daemon-2") as worker:
        vars(owner.seen_ledger)["claim_segment"] = _none
        vars(worker.seen_ledger)["claim_job"] = _none
        async with owner.working(), worker.working():
            yield owner, worker


def refused(world: World) -> int:
    return world.script.count("put", TARGET_BUCKET)


async def test_a_segment_refused_again_and_again_elsewhere_holds_the_job(world: World) -> None:
    world.timings = replace(world.timings, poll_seconds=0.1)
    objects = world.fill({f"{number:02}": Data(b"data") for number in range(8)})
    refusing = world.script.always("put", key="00").fails(KeyUnusableError)
    async with owner_and_worker(world) as (owner, _):
        await world.admit(owner.direct)
        job = await owner.reached(("held", *FINAL))
        assert (job.state, job.held_reason) == ("held", "key_unusable")
        assert str(job.error).startswith("daemon-2: ")
        assert refusing.applied <= refusals._REFUSALS_MAX + 2, "each after a poll; the owner looks as often"
        world.script.clear()
        await world.expire_leases()  # the worker's, of what it was at when the job was held
        await world.make_due()
        await owner.reached(FINAL)
        await world.assert_moved(owner.direct, objects)


async def test_refusals_are_forgotten_once_the_job_is_begun_anew(world: World) -> None:
    world.fill({f"{number:02}": Data(b"data") for number in range(2)})
    refusing = world.script.always("put", key="00").fails(KeyUnusableError)
    async with owner_and_worker(world) as (owner, _):
        await world.admit(owner.direct)
        await owner.reached(("held",))
        before = refusing.applied
        await world.expire_leases()
        await world.make_due()

        async def held_again() -> bool:
            return refusing.applied > before and (await owner.direct.job("job-1")).state == "held"

        await eventually(held_again)
        assert refusing.applied - before >= refusals._REFUSALS_MAX


async def test_a_few_refusals_hold_nothing(world: World) -> None:
    objects = world.fill({f"{number:02}": Data(b"data") for number in range(8)})
    passing = world.script.on("put", key="00", times=refusals._REFUSALS_MAX - 1).fails(KeyUnusableError)
    async with owner_and_worker(world) as (owner, _):
        await world.admit(owner.direct)
        job = await owner.reached(("held", *FINAL))
        assert job.state == "completed"
        assert passing.applied == refusals._REFUSALS_MAX - 1
        await world.assert_moved(owner.direct, objects)


async def test_an_outage_that_only_others_meet_holds_the_job(world: World) -> None:
    world.fill({f"{number:02}": Data(b"data") for number in range(8)})

    def unreachable() -> None:
        world.script.always("put", bucket=TARGET_BUCKET).fails(UnavailableError)

    world.script.on("list_page").first(unreachable)
    async with owner_and_worker(world) as (owner, _):
        await world.admit(owner.direct)
        job = await owner.reached(("held", *FINAL))
        assert (job.state, job.held_reason) == ("held", "store_unavailable")
