"""Two daemons work on one rotation, and one of them dies: the other one ends it, and writes nothing a second time."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from rekeyd.domain.objects import OWN_PREFIX
from rekeyd.ledger import rows
from tests.doubles.faulty import Call
from tests.doubles.mortal import DiedError, Life
from tests.jobs.test_rotate import ROTATE, assert_rotated, moved
from tests.jobs.world import FINAL, TARGET_BUCKET, Data, Process, World, eventually

OWNER, HELPER = "daemon-1", "daemon-2"


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two objects a segment."""
    monkeypatch.setattr(rows, "SEGMENT_OBJECTS_MAX", 2)


def dies_before_recording(process: Process) -> None:
    """It has written the objects of a segment, and tells nobody any more."""

    async def die() -> None:
        process.life.die()
        raise DiedError("objects written, not recorded")

    process.seen_ledger.before["record_outcomes"] = die


def nobody_copies_before_both_have_some(world: World) -> None:
    """The first copies wait until each of the two has claimed a segment."""
    met = asyncio.Event()

    async def both_have_some() -> bool:
        return met.is_set() or len(await world.segment_holders()) == 2

    async def until_both_have_some(call: Call) -> None:
        if not call.keys[0].startswith(OWN_PREFIX):
            await eventually(both_have_some)
            met.set()

    world.script.always("copy", bucket=TARGET_BUCKET).first_await(until_both_have_some)


async def until_it_dies(process: Process) -> None:
    try:
        await process.worker.run()
    except* DiedError:
        assert process.life.dead


async def recorded_by(world: World, process: Process, *, before: int = 0) -> set[str]:
    """Whose outcomes are on record, of this rotation."""
    found = await world.records(process.direct, "objects.recorded")
    return {record["actor"] for record in found[before:]}


@pytest.mark.parametrize("dies", [OWNER, HELPER])
async def test_the_one_that_is_left_ends_the_rotation(world: World, dies: str) -> None:
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)
    async with world.process("before") as process:
        objects = await moved(
            world, process, {f"{number:02}": Data(f"{number}".encode()) for number in range(12)}
        )
        before = len(await world.records(process.direct, "objects.recorded"))

    async with world.process(OWNER, Life()) as owner, world.process(HELPER, Life()) as helper:
        dying, left = (owner, helper) if dies == OWNER else (helper, owner)
        dies_before_recording(dying)
        nobody_copies_before_both_have_some(world)
        await world.rotate(owner.direct)
        owning = asyncio.create_task(until_it_dies(owner))

        async def begun() -> bool:
            return (await owner.direct.job(ROTATE)).phase == "reencrypt"

        await eventually(begun)
        helping = asyncio.create_task(until_it_dies(helper))
        await left.reached(FINAL, ROTATE)
        left.worker.stop()
        await asyncio.wait({owning, helping})
        assert (owner.life.dead, helper.life.dead) == (dies == OWNER, dies == HELPER)
        for ended in (owning, helping):
            ended.result()
        await assert_rotated(world, left, objects)
        assert await recorded_by(world, left, before=before) == {left.name}
    # What the dead one had written is found under the new key, and left as it is.
    copies = Counter(call.keys[0] for call in world.script.calls if call.operation == "copy")
    assert {name: copies[name] for name in objects} == dict.fromkeys(objects, 1)


async def test_both_bring_what_they_claim_and_neither_what_the_other_has(world: World) -> None:
    async with world.process("before") as process:
        objects = await moved(
            world, process, {f"{number:02}": Data(f"{number}".encode()) for number in range(12)}
        )
        before = len(await world.records(process.direct, "objects.recorded"))

    nobody_copies_before_both_have_some(world)
    async with world.process(OWNER) as owner, world.process(HELPER) as helper:
        await world.rotate(owner.direct)
        async with owner.working(), helper.working():
            await owner.reached(FINAL, ROTATE)
        await assert_rotated(world, owner, objects)
        assert await recorded_by(world, owner, before=before) == {OWNER, HELPER}
    copies = Counter(call.keys[0] for call in world.script.calls if call.operation == "copy")
    assert {name: copies[name] for name in objects} == dict.fromkeys(objects, 1)
