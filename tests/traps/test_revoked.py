"""A customer that takes its key away while its data are on their way.

| trap that others fell into | must hold here |
|---|---|
| key revoked in mid-job | held; no deletes; resumes |
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.ledger import rows
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import FINAL, KEY, SOURCE, TARGET_BUCKET, Data, World, eventually


@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
@pytest.mark.parametrize("when", ["copying", "pausing", "switching", "retiring"])
async def test_key_revoked_in_mid_job(make_world: MakeWorld, when: str, server_side: bool) -> None:
    """Held with the key's own reason, nothing deleted from then on, no storm; enabled again, it goes on."""
    world = make_world(server_side=server_side)
    objects = world.fill({f"{number:02}": Data(f"data {number}".encode()) for number in range(6)})
    _revoke(world, when, "copy" if server_side else "put")
    async with world.process() as process:
        job = await process.move()
        assert job.state == "held", job
        assert job.held_reason in {"key_disabled", "key_unusable"}
        assert await world.key_state(process.direct) == "unavailable"
    left, copies = world.in_source(), dict(world.target_shelf.buckets[TARGET_BUCKET].objects)
    deletes = world.script.count("delete", SOURCE.bucket)
    assert set(left) == set(objects)
    assert deletes == 0
    await world.make_due()
    async with world.process() as process:
        looked = len(world.metrics.key_checks)
        mutated = len(world.script.mutations())
        async with process.working() as task:

            async def looked_again() -> bool:
                return len(world.metrics.key_checks) > looked and not await world.claimed()

            await eventually(looked_again)
            await process.reached(("held",), task=task)
        assert len(world.metrics.key_checks) == looked + 1, "one look, and no storm"
        assert len(world.script.mutations()) == mutated
    assert (world.in_source(), dict(world.target_shelf.buckets[TARGET_BUCKET].objects)) == (left, copies)
    world.enable_key()
    await world.make_due()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)
        assert await world.key_state(process.direct) == "active"


def _revoke(world: World, when: str, writes: str) -> None:
    world.timings = replace(world.timings, held_recheck_seconds=3600.0)
    match when:
        case "copying":
            world.script.on(writes, bucket=TARGET_BUCKET, key="03").first(world.disable_key)
        case "pausing":
            world.script.on("list_page", bucket=SOURCE.bucket, nth=3).then(world.disable_key).waits(0.2)
        case "switching":
            world.script.on("list_uploads", bucket=TARGET_BUCKET).then(world.disable_key)
        case _:
            world.script.on("describe", bucket=SOURCE.bucket, nth=2).then(world.disable_key)


async def test_key_revoked_in_mid_job_while_the_store_goes_on_using_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may remember a key for minutes. The key service is asked beside it: no further delete takes effect."""
    monkeypatch.setattr(rows, "SEGMENT_OBJECTS_MAX", 2)
    world.segments_max = 1
    objects = world.fill({f"{number:02}": Data(b"data") for number in range(6)})

    def disable() -> None:
        world.custody.keys[KEY.arn].state = "Disabled"

    world.script.on("delete", bucket=SOURCE.bucket, nth=2).first(disable).waits(1.0)
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason, job.phase) == ("held", "key_disabled", "retire")
    assert len(world.in_source()) == len(objects) - 2
    assert world.script.count("delete", SOURCE.bucket) == 2
    world.enable_key()
    await world.make_due()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)
