"""The control object in the target: a ledger that doesn't know it changes nothing, and says nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rekeyd.domain.control import CONTROL_KEY
from rekeyd.domain.errors import DistrustedError, UnavailableError
from rekeyd.domain.objects import Encryption
from rekeyd.domain.tenant import PlacementRecord, serve
from tests.doubles.mortal import DiedError, Life
from tests.jobs.world import FINAL, KEY, SOURCE, TARGET_BUCKET, TENANT, Data, Process, World, eventually


def control_of(world: World) -> dict[str, Any]:
    stored = world.target_shelf.buckets[TARGET_BUCKET].objects[CONTROL_KEY]
    assert stored.encryption == Encryption("aws:kms", KEY.arn)
    document: dict[str, Any] = json.loads(stored.data)
    return document


def put_control(world: World, content: bytes) -> None:
    world.put_into(
        world.target_shelf, TARGET_BUCKET, CONTROL_KEY, Data(content), Encryption("aws:kms", KEY.arn)
    )


def back_up(world: World, path: Path) -> None:
    """As an operator does, beside running daemons."""
    with closing(sqlite3.connect(world.ledger_path)) as db, closing(sqlite3.connect(path)) as copy:
        db.backup(copy)


def restore(world: World, path: Path) -> None:
    """With no daemon running."""
    for each in world.ledger_path.parent.glob(f"{world.ledger_path.name}-*"):
        each.unlink()
    shutil.copy(path, world.ledger_path)


async def record_of(process: Process) -> PlacementRecord:
    record, _ = await process.direct.placement(TENANT)
    assert record is not None
    return record


async def test_the_control_object_says_what_takes_effect_and_is_no_object_of_the_tenants(
    world: World,
) -> None:
    objects = world.fill()
    said: list[dict[str, Any]] = []

    async def note(_changed: PlacementRecord) -> None:
        said.append(control_of(world))

    async with world.process() as process:
        process.seen_ledger.after["change_placement"] = note
        process.seen_ledger.after["open_writes"] = note
        await process.move()
        await world.assert_moved(process.direct, objects)
        records = [record async for record in process.direct.audit_records("main")]
    paused, dedicated = said
    assert dedicated == control_of(world)
    assert paused["schema"] == dedicated["schema"] == "rekeyd.control/1"
    assert (paused["phase"], paused["epoch"], paused["returns_epoch"]) == ("paused", 1, 2)
    assert (dedicated["phase"], dedicated["epoch"], dedicated["returns_epoch"]) == ("dedicated", 3, None)
    for each in said:
        assert (each["tenant"], each["source"], each["target"]) == (TENANT, str(SOURCE), str(world.target))
        sequence, record_hash = each["audit_heads"]["main"]
        assert records[sequence - 1].hash == record_hash


async def hold_after_copying(world: World, process: Process) -> None:
    """The copies are in the target; no pause was proposed yet."""
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2, times=3).fails(UnavailableError)
    job = await process.work()
    assert (job.state, job.held_reason) == ("held", "store_unavailable")
    world.script.clear()


async def resume(process: Process) -> None:
    """As a person does who is told that a job is held."""
    if (await process.direct.job("job-1")).state == "held":
        await process.direct.resume_job("job-1", "an operator")


async def not_begun(_world: World, _process: Process) -> None:
    """The job is in the ledger, nothing else."""


@pytest.mark.parametrize("course", [not_begun, hold_after_copying])
async def test_a_ledger_that_was_restored_from_before_the_switch_is_held_and_serves_nothing(
    world: World, tmp_path: Path, course: Callable[[World, Process], Awaitable[None]]
) -> None:
    objects = world.fill()
    async with world.process() as process:
        await world.admit(process.direct)
        await course(world, process)
    back_up(world, tmp_path / "backup.db")
    async with world.process() as process:
        await resume(process)
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)
    back_up(world, tmp_path / "newest.db")
    restore(world, tmp_path / "backup.db")
    # The vendor's writers go on in the target.
    world.put_into(world.target_shelf, TARGET_BUCKET, "a/small", Data(b"new"), Encryption("aws:kms", KEY.arn))
    kept = dict(world.target_shelf.buckets[TARGET_BUCKET].objects)
    changed = len(world.script.mutations())
    async with world.process() as process:
        await resume(process)
        job = await process.work()
        assert (job.state, job.held_reason) == ("held", "ledger_behind")
        assert "the epoch 3, of which this ledger knows nothing" in str(job.error)
        with pytest.raises(DistrustedError):
            serve(await record_of(process), await process.direct.now(), 10.0)
        await world.make_due()
        assert await process.direct.claim_job("daemon-2", 1.0) is None, "a person's to decide"
        assert "placement.distrusted" in await world.actions(process.direct)
        await world.assert_trail(process.direct)
    assert len(world.script.mutations()) == changed
    assert world.target_shelf.buckets[TARGET_BUCKET].objects == kept
    restore(world, tmp_path / "newest.db")
    async with world.process() as process:
        placement = serve(await record_of(process), await process.direct.now(), 10.0)
        assert (placement.phase, placement.epoch) == ("dedicated", 3)


async def test_a_ledger_that_was_restored_to_amid_the_switch_ends_it(world: World, tmp_path: Path) -> None:
    """Whatever came after it in the ledger that was lost: it never returns to the source."""
    objects = world.fill()

    async def save(_switched: PlacementRecord) -> None:
        back_up(world, tmp_path / "backup.db")

    async with world.process() as process:
        process.seen_ledger.after["switch"] = save
        await world.admit(process.direct, grace_seconds=0)
        process.seen_ledger.before["plan_retirement"] = _stop(process)
        async with process.working():
            await process.worker._stopping.wait()
    world.put_into(world.target_shelf, TARGET_BUCKET, "new", Data(b"new"), Encryption("aws:kms", KEY.arn))
    restore(world, tmp_path / "backup.db")
    await world.expire_leases()
    async with world.process() as process:
        placement = serve(await record_of(process), await process.direct.now(), 10.0)
        assert (placement.phase, placement.reads, placement.writes) == ("dedicated", (world.target,), ())
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects | {"new": Data(b"new")})


def _stop(process: Process) -> Callable[[], Awaitable[None]]:
    async def stop() -> None:
        process.worker.stop()
        await asyncio.Event().wait()

    return stop


async def test_a_ledger_with_another_history_under_the_same_epoch_is_held(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await world.admit(process.direct)
        world.script.on("list_page", bucket=SOURCE.bucket, nth=3, times=3).fails(UnavailableError)
        assert (await process.work()).held_reason == "store_unavailable"
        world.script.clear()
        theirs = control_of(world)
        put_control(world, json.dumps(theirs | {"audit_heads": {"main": [7, "0" * 64]}}).encode())
    async with world.process() as process:
        await resume(process)
        job = await process.work()
        assert (job.state, job.held_reason) == ("held", "ledger_behind")
        assert "audit records" in str(job.error)


async def test_known_again_the_tenant_is_served_and_the_job_goes_on(world: World) -> None:
    objects = world.fill()
    async with world.process() as process:
        await world.admit(process.direct)
        await hold_after_copying(world, process)
        put_control(
            world,
            json.dumps(
                {
                    "schema": "rekeyd.control/1",
                    "tenant": TENANT,
                    "source": str(SOURCE),
                    "target": str(world.target),
                    "phase": "paused",
                    "epoch": 9,
                    "returns_epoch": 10,
                    "audit_heads": {},
                    "added_later": True,
                }
            ).encode(),
        )
        await process.direct.resume_job("job-1", "an operator")
    async with world.process() as process:
        assert (await process.work()).held_reason == "ledger_behind"
        assert (await record_of(process)).distrusted is not None
        del world.target_shelf.buckets[TARGET_BUCKET].objects[CONTROL_KEY]
        await process.direct.resume_job("job-1", "an operator")
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)
        assert (await record_of(process)).distrusted is None


def gone(world: World) -> None:
    del world.target_shelf.buckets[TARGET_BUCKET].objects[CONTROL_KEY]


def another_tenants(world: World) -> None:
    put_control(world, json.dumps(control_of(world) | {"tenant": "rival"}).encode())


def another_moves(world: World) -> None:
    put_control(world, json.dumps(control_of(world) | {"source": "s3://elsewhere/"}).encode())


def no_json(world: World) -> None:
    put_control(world, b"no JSON")


def too_long(world: World) -> None:
    put_control(world, b" " * 65_537)


@pytest.mark.parametrize("harm", [gone, another_tenants, another_moves, no_json, too_long])
@pytest.mark.parametrize("phase", ["copy", "grace"])
async def test_a_control_object_that_somebody_else_changed_holds_the_job_for_a_person(
    world: World, harm: Callable[[World], None], phase: str
) -> None:
    objects = world.fill()
    async with world.process() as process:
        await world.admit(process.direct)
        if phase == "copy":
            world.script.on("list_page", bucket=SOURCE.bucket, nth=3, times=3).fails(UnavailableError)
            await process.work()
            world.script.clear()
        else:
            process.seen_ledger.before["plan_retirement"] = _stop(process)
            async with process.working():
                await process.worker._stopping.wait()
    was = world.target_shelf.buckets[TARGET_BUCKET].objects[CONTROL_KEY]
    harm(world)
    changed = len(world.script.mutations())
    await world.expire_leases()
    await world.make_due()
    async with world.process() as process:
        await resume(process)
        job = await process.work()
        assert (job.state, job.held_reason) == ("held", "drift")
        assert CONTROL_KEY in str(job.error)
        assert len(world.script.mutations()) == changed
        world.target_shelf.buckets[TARGET_BUCKET].objects[CONTROL_KEY] = was
        await process.direct.resume_job("job-1", "an operator")
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_lost_answer_of_its_write_is_settled_by_reading(world: World, nth: int) -> None:
    objects = world.fill()
    lost = world.script.on("put", key=CONTROL_KEY, nth=nth).loses_answer(UnavailableError)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)
    assert lost.applied == 1
    assert control_of(world)["epoch"] == 3


async def test_where_it_can_not_be_written_no_pause_begins(world: World) -> None:
    objects = world.fill()
    world.script.always("put", key=CONTROL_KEY).fails(UnavailableError)
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "store_unavailable")
        assert (await record_of(process)).phase == "shared"
        assert (await record_of(process)).epoch == 0
        assert world.metrics.pauses == []
        world.script.clear()
        await world.make_due()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)


async def test_who_changes_it_between_two_writes_is_not_overwritten(world: World) -> None:
    world.fill()
    world.script.on("put", key=CONTROL_KEY, nth=2).first(lambda: another_tenants(world))
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "drift")
    assert control_of(world)["tenant"] == "rival"
    assert world.script.count("delete", SOURCE.bucket) == 0


async def test_a_switch_that_is_committed_as_the_pauses_time_ends_is_no_failed_attempt(world: World) -> None:
    world.timings = replace(world.timings, pause_seconds_max=1.0)
    objects = world.fill({"a": Data(b"a")})

    async def late(_switched: PlacementRecord) -> None:
        await asyncio.sleep(2.0)

    async with world.process() as process:
        process.seen_ledger.after["switch"] = late
        await process.move()
        await world.assert_moved(process.direct, objects)
        assert "job.attempt_failed" not in await world.actions(process.direct)
    assert len(world.metrics.pauses) == 1


async def test_cancelled_in_the_commit_of_a_pause_the_writers_go_on(world: World) -> None:
    objects = world.fill({"a": Data(b"a")})
    async with world.process() as process:

        async def stop(changed: PlacementRecord) -> None:
            if changed.phase == "paused":
                process.worker.stop()
                await asyncio.Event().wait()

        process.seen_ledger.after["change_placement"] = stop
        await world.admit(process.direct)
        async with process.working():
            await process.worker._stopping.wait()
        assert (await record_of(process)).phase == "shared"
        assert (await record_of(process)).epoch == 2
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)


async def test_a_death_between_the_switch_and_its_opening_leaves_it_to_the_next_one(world: World) -> None:
    objects = world.fill({"a": Data(b"a")})
    life = Life()

    async def die(_switched: PlacementRecord) -> None:
        life.die()

    async with world.process(life=life) as process:
        process.seen_ledger.after["switch"] = die
        await world.admit(process.direct)
        try:
            await process.work()
        except* DiedError:
            pass
        placement = serve(await record_of(process), await process.direct.now(), 10.0)
        assert (placement.phase, placement.writes) == ("dedicated", ())
        assert control_of(world)["phase"] == "paused"
    await world.expire_leases()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)
    assert control_of(world)["phase"] == "dedicated"


async def test_a_job_with_another_key_admitted_before_the_switch_retires_nothing(world: World) -> None:
    objects = world.fill()
    async with world.process() as process:
        await world.admit(process.direct, grace_seconds=3600)

        async def admit_another() -> None:
            world.use_another_key()
            await world.admit(process.direct, "job-2")
            world.key = KEY

        process.seen_ledger.before["switch"] = admit_another
        async with process.working() as task:
            await eventually(lambda: world.known(process.direct, "job-2"))
            job = await process.reached(FINAL, "job-2", task=task)
        assert job.state == "failed"
        assert "dedicated already" in str(job.error)
    assert world.script.count("delete", SOURCE.bucket) == 0
    await world.rewind(3601)
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)
