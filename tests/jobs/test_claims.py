"""Claims among processes: cancelled, stopped, taken over, worked on by two at once, and given up for a long wait."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from rekeyd.domain.errors import ClaimLostError, KeyUnusableError, UnavailableError
from rekeyd.domain.key import KeyDescription, KmsKey
from rekeyd.domain.objects import OWN_PREFIX
from rekeyd.ledger import rows
from rekeyd.stores.guarded import Retries, RetryPolicy
from rekeyd.stores.memory.shelf import Stored
from tests.doubles.faulty import Call
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import (
    FINAL,
    MEBIBYTE,
    SOURCE,
    TARGET_BUCKET,
    TENANT,
    Data,
    World,
    eventually,
)
from tests.patience import HANG_SECONDS


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two objects a segment."""
    monkeypatch.setattr(rows, "SEGMENT_OBJECTS_MAX", 2)


@pytest.mark.parametrize("operation", ["put", "read", "put_part", "complete_upload"])
async def test_nothing_is_changed_once_the_claims_of_a_cancelled_job_have_ended(
    world: World, operation: str
) -> None:
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)
    objects = world.fill()
    arrived = asyncio.Event()
    world.script.on(operation, nth=4 if operation in {"put", "read"} else 1).hangs(arrived)
    async with world.process() as process:
        await world.admit(process.direct)
        async with process.working() as task:
            await arrived.wait()
            assert (await process.direct.cancel_job("job-1", "an operator")).state == "cancelled"
            await asyncio.sleep(world.timings.lease_seconds)
            changed = len(world.script.mutations())
            await asyncio.sleep(world.timings.lease_seconds / 2)
            assert len(world.script.mutations()) == changed
            assert not task.done()
        assert (await process.direct.job("job-1")).state == "cancelled"
        assert await world.claimed() == 0
        record, _ = await process.direct.placement(TENANT)
        assert record is not None
        assert record.phase == "shared"
        await world.assert_trail(process.direct)
    assert set(world.in_source()) == set(objects)
    assert world.script.count("delete", SOURCE.bucket) == 0


async def test_another_job_takes_up_what_a_cancelled_one_left(world: World) -> None:
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)
    objects = world.fill()
    arrived = asyncio.Event()
    world.script.on("put_part", nth=2).hangs(arrived)
    async with world.process() as process:
        await world.admit(process.direct)
        async with process.working():
            await arrived.wait()
            await process.direct.cancel_job("job-1", "an operator")
            await world.admit(process.direct, "job-2")
            await process.reached(FINAL, "job-2")
        await world.assert_moved(process.direct, objects, "job-2")


def tenants(world: World) -> dict[str, Stored]:
    """What lies in the target but for rekeyd's own."""
    objects = world.target_shelf.buckets[TARGET_BUCKET].objects
    return {key: stored for key, stored in objects.items() if not key.startswith(OWN_PREFIX)}


async def test_a_job_resubmitted_after_the_switch_copies_nothing(world: World) -> None:
    world.guards_deletes = False
    world.fill()
    async with world.process() as process:
        await process.move()
        world.put_into(world.target_shelf, TARGET_BUCKET, "new", Data(b"a writer's"))
        kept = tenants(world)
        changed, listed = len(world.script.mutations()), world.script.count("list_page")
        world.put("late", Data(b"a broken promise"))
    async with world.process() as process:
        await world.admit(process.direct, "job-2")
        job = await process.work("job-2")
        assert job.state == "completed"
        assert "'tenants/acme/late'" in str(job.error)
    # Its certificate and the evidence are its own; nothing of the tenant's is written.
    since = world.script.mutations()[changed:]
    assert all(key.startswith(OWN_PREFIX) for call in since for key in call.keys)
    assert world.script.count("list_page") == listed + 1  # what remains in the source
    assert tenants(world) == kept
    assert set(world.in_source()) == {"late"}


async def test_a_long_grace_occupies_nobody_and_is_taken_up_when_it_is_over(world: World) -> None:
    objects = world.fill()
    async with world.process() as process:
        await world.admit(process.direct, grace_seconds=3600)
        async with process.working() as task:

            async def waiting() -> bool:
                job = await process.direct.job("job-1")
                return job.phase == "grace" and not await world.claimed()

            await eventually(waiting)
            assert (await process.direct.job("job-1")).state == "running"
            assert set(world.in_source()) == set(objects) == set(world.in_target())
            assert await process.direct.claim_job("daemon-2", 1.0) is None
            assert not process.worker._runs
            await world.make_due()
            # Only the switch is made older: the grace counts from it.
            assert not task.done()
        assert world.script.count("delete", SOURCE.bucket) == 0
    async with world.process() as process:
        await world.rewind(3601)
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)


async def test_what_a_writer_replaced_in_the_target_during_the_grace_remains_in_the_source(
    world: World,
) -> None:
    world.guards_deletes = False
    world.fill()
    async with world.process() as process:
        await world.admit(process.direct, grace_seconds=3600)
        async with process.working():

            async def waiting() -> bool:
                job = await process.direct.job("job-1")
                return job.phase == "grace" and not await world.claimed()

            await eventually(waiting)
    world.put_into(world.target_shelf, TARGET_BUCKET, "a/small", Data(b"newer"))
    del world.target_shelf.buckets[TARGET_BUCKET].objects["z"]
    world.put("a/empty", Data(b"a broken promise"))
    await world.rewind(3601)
    async with world.process() as process:
        job = await process.work(until=FINAL)
        assert job.state == "completed"
        assert "3 objects" in str(job.error)
        await world.assert_trail(process.direct)
    assert set(world.in_source()) == {"a/small", "z", "a/empty"}
    assert world.target_shelf.buckets[TARGET_BUCKET].objects["a/small"].data == b"newer"
    assert "z" not in world.target_shelf.buckets[TARGET_BUCKET].objects


@pytest.mark.parametrize("operation", ["read", "put", "put_part", "head", "list_page", "delete"])
async def test_stopped_amid_work_nothing_is_claimed_and_all_can_be_taken_up(
    world: World, operation: str
) -> None:
    objects = world.fill()
    first: list[bool] = []
    async with world.process() as process:

        def stop() -> None:
            first.append(True)
            process.worker.stop()

        bucket = (
            None
            if operation == "head"
            else {"put": TARGET_BUCKET, "put_part": TARGET_BUCKET}.get(operation, SOURCE.bucket)
        )
        world.script.on(operation, bucket=bucket, nth=1 if operation != "put" else 4).first(stop).waits(0.1)
        await world.admit(process.direct)
        async with asyncio.timeout(HANG_SECONDS):
            await process.worker.run()
        assert first
        job = await process.direct.job("job-1")
        assert job.state == "running"
        assert await world.claimed() == 0
        assert world.target_shelf.uploads == {}
        record, _ = await process.direct.placement(TENANT)
        assert record is not None
        assert record.phase != "paused"
    async with world.process("daemon-2") as process:
        await process.work()
        await world.assert_moved(process.direct, objects)


async def test_cancelled_from_outside_it_ends_and_leaves_no_upload(world: World) -> None:
    """The second signal."""
    objects = world.fill()
    arrived = asyncio.Event()
    world.script.on("put_part", nth=2).hangs(arrived)
    async with world.process() as process:
        await world.admit(process.direct)
        work = asyncio.create_task(process.worker.run())
        await arrived.wait()
        assert world.target_shelf.uploads
        work.cancel()
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.gather(work, return_exceptions=True)
        assert work.cancelled()
        assert world.target_shelf.uploads == {}
    await world.expire_leases()
    async with world.process("daemon-2") as process:
        await process.work()
        await world.assert_moved(process.direct, objects)


@pytest.mark.usefixtures("small_segments")
async def test_two_daemons_share_the_work(world: World) -> None:
    objects = world.fill({f"{number:02}": Data(b"data" * number) for number in range(24)})

    seen: set[str] = set()

    async def both_have_some() -> bool:
        seen.update(await world.segment_holders())
        return len(seen) == 2

    async def until_both_have_some(call: Call) -> None:
        if not call.keys[0].startswith(OWN_PREFIX):
            await eventually(both_have_some)

    world.script.always("put").first_await(until_both_have_some)
    async with world.process("daemon-1") as first, world.process("daemon-2") as second:
        await world.admit(first.direct)
        async with first.working(), second.working():
            await first.reached(FINAL)
        await world.assert_moved(first.direct, objects)
        actors = [
            json.loads(record.body)["actor"]
            async for record in first.direct.audit_records("main")
            if json.loads(record.body)["action"] == "objects.recorded"
        ]
    assert set(actors) == {"daemon-1", "daemon-2"}
    puts = [call.keys[0] for call in world.script.calls if call.operation == "put"]
    assert all(puts.count(name) == 1 for name in objects)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
async def test_claims_that_overlap_do_no_harm(make_world: MakeWorld, server_side: bool) -> None:
    """Each believes to hold its claims still when the other has taken them."""
    world = make_world(server_side=server_side)
    objects = world.fill({f"{number:02}": Data(b"data" * number) for number in range(16)})
    objects |= world.fill({"large": Data(b"L" * (6 * MEBIBYTE))})
    for operation in ("put", "copy", "delete", "copy_part", "put_part"):
        world.script.always(operation).waits(0.02)
    async with world.process("daemon-1") as first, world.process("daemon-2") as second:
        await world.admit(first.direct)
        async with first.working() as one, second.working() as two:
            for _ in range(6):
                await asyncio.sleep(0.07)
                await world.expire_leases()
            await first.reached(FINAL)
            assert not one.done()
            assert not two.done()
        await world.assert_moved(first.direct, objects)
    assert world.metrics.claims_lost > 0


async def test_a_job_claimed_again_while_its_former_run_still_ends_is_no_broken_invariant(
    world: World,
) -> None:
    """A renewal is refused; before the former run's objects have given up, this very process claims the job anew."""
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)
    objects = world.fill()
    arrived = asyncio.Event()
    world.script.on("put_part", nth=1).hangs(arrived)
    ending = world.script.on("abort_upload").waits(0.5)

    async def lose() -> None:
        if arrived.is_set():
            del process.seen_ledger.before["renew_job"]
            await world.expire_leases()
            raise ClaimLostError("taken over")

    async with world.process() as process:
        process.seen_ledger.before["renew_job"] = lose
        await world.admit(process.direct)
        await process.work(until=FINAL)
        assert ending.applied
        await world.assert_moved(process.direct, objects)


async def test_unverified_work_of_a_lost_segment_is_not_recorded(world: World) -> None:
    """What a late holder reports is refused, and what it wrote is found by whoever comes next."""
    objects = world.fill()
    lost = world.script.on("put", key="z").then(
        lambda: asyncio.get_running_loop().create_task(world.expire_leases())
    )
    async with world.process() as process:
        await process.move()
        assert lost.applied
        await world.assert_moved(process.direct, objects)


@pytest.mark.usefixtures("small_segments")
async def test_while_the_key_service_is_asked_what_is_wrong_nothing_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill({f"{number:02}": Data(b"data") for number in range(8)})
    describe = world.custody.describe

    async def slowly(key: KmsKey) -> KeyDescription | None:
        if failing.applied:
            await asyncio.sleep(0.5)
        return await describe(key)

    monkeypatch.setattr(world.custody, "describe", slowly)
    failing = world.script.always("read", bucket=SOURCE.bucket).fails(KeyUnusableError)
    async with world.process() as process:
        job = await process.move()
    assert (job.state, job.held_reason) == ("held", "key_unusable")
    assert failing.applied <= world.segments_max * 2, "two segments of two objects each, once"


async def test_a_put_that_lands_late_does_not_bring_back_what_was_deleted(world: World) -> None:
    """No answer came, and its key has vanished since: before its deadline absence in the target proves nothing."""
    world.timings = replace(world.timings, lease_seconds=6.0, call_seconds_max=2.0)
    objects = world.fill({"a": Data(b"data"), "b": Data(b"data")})
    lands, loop = asyncio.Event(), asyncio.get_running_loop()
    unanswered = world.script.on("put", bucket=TARGET_BUCKET, key="a", times=3)
    unanswered.first(lambda: world.remove("a")).first(lambda: loop.call_later(0.6, lands.set))
    unanswered.acts_later(lands)
    async with world.process() as process:
        await process.move()
        await unanswered.acted.wait()
        assert unanswered.applied == 3
        await world.assert_moved(process.direct, {"b": objects["b"]})


async def test_a_put_that_lands_late_finds_the_copy_that_its_repetition_made(world: World) -> None:
    """The copy is verified, then its key vanishes: swept before the first put's deadline, it would come back."""
    world.timings = replace(world.timings, lease_seconds=6.0, call_seconds_max=2.0)
    objects = world.fill({"a": Data(b"data"), "b": Data(b"data")})
    lands, loop = asyncio.Event(), asyncio.get_running_loop()
    unanswered = world.script.on("put", bucket=TARGET_BUCKET, key="a")
    unanswered.first(lambda: loop.call_later(0.6, lands.set)).acts_later(lands)
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(lambda: world.remove("a"))
    async with world.process() as process:
        await process.move()
        await unanswered.acted.wait()
        await world.assert_moved(process.direct, {"b": objects["b"]})


async def test_a_daemon_that_stops_leaves_a_segment_with_an_unanswered_call_to_its_lease(
    world: World,
) -> None:
    world.fill({"a": Data(b"data"), "b": Data(b"data")})
    never = asyncio.Event()
    world.script.on("put", bucket=TARGET_BUCKET, key="a", times=3).acts_later(never)
    async with world.process() as process:
        world.script.on("put", bucket=TARGET_BUCKET, key="b").first(process.worker.stop)
        await world.admit(process.direct)
        async with process.working() as task:
            await asyncio.wait({task})
    assert await world.leased_segments() == 1


async def test_what_a_cancelled_job_had_under_way_is_ours_to_the_next_job_with_another_key(
    world: World,
) -> None:
    """Its copies lie under the first key, and nobody has recorded them."""
    objects = world.fill()
    async with world.process() as process:

        async def cancel(_call: Call) -> None:
            await process.direct.cancel_job("job-1", "an operator")

        landed = world.script.on("put", bucket=TARGET_BUCKET, key="a/small")
        landed.then_await(cancel)
        await world.admit(process.direct)
        await process.work(until=("cancelled",))
        assert landed.applied == 1
    await world.expire_leases()
    world.use_another_key()
    async with world.process() as process:
        await world.admit(process.direct, "job-2")
        await process.work("job-2")
        await world.assert_moved(process.direct, objects, "job-2")


async def test_an_overwrite_whose_answer_was_lost_is_ours_when_its_key_vanishes(world: World) -> None:
    world.retries = Retries(RetryPolicy(attempts_max=1), jitter=lambda: 0.0, sleep=asyncio.sleep)
    objects = world.fill({"a": Data(b"data"), "b": Data(b"data")})
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(
        lambda: world.put("a", Data(b"more data than before"))
    )
    overwrite = world.script.on("put", bucket=TARGET_BUCKET, key="a", nth=2)
    overwrite.then(lambda: world.remove("a")).loses_answer(UnavailableError)
    async with world.process() as process:
        await process.move()
        assert overwrite.applied == 1
        await world.assert_moved(process.direct, {"b": objects["b"]})
