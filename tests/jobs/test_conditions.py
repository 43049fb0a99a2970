"""A store that doesn't heed a condition is refused before anything of a tenant's depends on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest

from rekeyd.domain.errors import AccessDeniedError, KeyUnusableError, StoreError, UnavailableError
from rekeyd.jobs.conditions import Keys, first_unheeded, first_unheeded_delete
from rekeyd.jobs.own_objects import Ground
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.port import IfAbsent, IfMatches, ObjectStore, UnderKey, WriteCondition
from tests.doubles.claim import Claim
from tests.doubles.faulty import FaultyStore, Script
from tests.doubles.heedless import Deafness, HeedlessStore, Manner, Operation
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_held import held_then_mended
from tests.jobs.world import KEY, SOURCE, TARGET_BUCKET, TENANT, Data, World

KEYS = Keys.of(TENANT)
WORDS: dict[Operation, str] = {
    "put": "Put",
    "copy": "Copy",
    "complete_upload": "Complete",
    "delete": "Delete",
    "delete of several": "Delete of several",
    "hide": "Delete",
}
NAMES: dict[type[WriteCondition], str] = {
    IfAbsent: "(If-None-Match: *)",
    IfMatches: "(If-Match with another ETag)",
}
TOLD: dict[Manner, str] = {
    "acts": "is carried out although the condition doesn't hold",
    "acts and refuses": "is answered with 412, and carried out nevertheless",
    "doesn't know it": "is not answered with 412 but with: ",
}
WRITES: tuple[Operation, ...] = ("put", "copy", "complete_upload")
DELETES: tuple[Operation, ...] = ("delete", "delete of several")


def every(operations: Iterable[Operation]) -> list[Deafness]:
    """Each way in which a store doesn't heed a condition of one of these."""
    return [
        Deafness(operation, condition, manner)
        for operation in operations
        for condition in NAMES
        for manner in TOLD
        if operation in WRITES or condition is IfMatches
    ]


# --- every way of not heeding a condition is found out ---


def grounds(deafness: Deafness | None, *, versioned: bool) -> tuple[Shelf, Ground]:
    shelf = Shelf()
    shelf.make_bucket("b", versioned=versioned)
    store = MemoryStore(shelf) if deafness is None else HeedlessStore(shelf, deafness)
    return shelf, Ground(store, "b", UnderKey(KEY.arn), Claim(), keeps_versions=versioned)


def assert_nothing_left(shelf: Shelf) -> None:
    assert list(shelf.buckets["b"].objects.keys_of_all()) == []
    assert shelf.uploads == {}


@pytest.mark.parametrize(
    ("versioned", "deafness"),
    [
        *((False, deafness) for deafness in every((*WRITES, *DELETES))),
        *((True, deafness) for deafness in every((*WRITES, "hide"))),
    ],
    ids=str,
)
async def test_a_condition_that_is_not_heeded_is_found_out(versioned: bool, deafness: Deafness) -> None:
    shelf, ground = grounds(deafness, versioned=versioned)

    found = str(await first_unheeded(ground, KEYS, copies=True))

    told = TOLD[deafness.manner]
    assert found.startswith(f"{WORDS[deafness.operation]} {NAMES[deafness.condition]} {told}"), found
    assert_nothing_left(shelf)


@pytest.mark.parametrize("versioned", [False, True])
async def test_conditions_that_are_heeded_are_not_found_fault_with(versioned: bool) -> None:
    shelf, ground = grounds(None, versioned=versioned)

    for _ in range(2):
        assert await first_unheeded(ground, KEYS, copies=True) is None
        assert_nothing_left(shelf)


async def test_proofs_of_two_tenants_in_one_bucket_do_not_touch_each_other() -> None:
    """A shared source is where they meet."""
    shelf, ground = grounds(None, versioned=False)

    proofs = (first_unheeded_delete(ground, Keys.of(f"tenant-{number}")) for number in range(5))

    assert await asyncio.gather(*proofs) == [None] * 5
    assert_nothing_left(shelf)


async def test_what_can_not_be_removed_does_not_hide_why_the_store_is_refused() -> None:
    shelf, ground = grounds(Deafness("put"), versioned=False)
    script = Script()
    script.always("delete", key=KEYS.standing).fails(AccessDeniedError)
    objects = FaultyStore(ground.objects, script)

    found = await first_unheeded(replace(ground, objects=objects), KEYS, copies=True)

    assert str(found).startswith("Put (If-Match")
    assert set(shelf.buckets["b"].objects.keys_of_all()) == set(KEYS.both)


# --- and fails the job ---


def deaf(world: World, deafness: Deafness, *, name: str) -> None:
    """Have the store of this name not heed a condition."""

    def make(shelf: Shelf, store: str) -> ObjectStore:
        if store != name:
            return MemoryStore(shelf, name=store)
        return HeedlessStore(shelf, deafness, name=store)

    world.make_store = make


async def assert_refused(world: World, end: str, operation: Operation) -> None:
    """The job fails, says why, and has copied and deleted nothing."""
    objects = world.fill()
    async with world.process() as process:
        job = await process.move()
        record, _ = await process.direct.placement(TENANT)
        assert record is not None
        assert record.phase == "shared"
    error = str(job.error)
    assert job.state == "failed", (job.state, job.held_reason, error)
    assert error.startswith(f"{end}: ")
    assert f"{WORDS[operation]} (If-Match with another ETag) " in error
    assert set(world.in_source()) == set(objects)
    assert world.in_target() == {}
    touched = {key for call in world.script.mutations() for key in call.keys}
    assert not {key for key in touched if not key.startswith(".rekeyd/")}
    world.assert_no_proof_left()


@pytest.mark.parametrize("operation", [*WRITES, *DELETES])
async def test_a_store_that_does_not_heed_a_condition_is_refused(
    make_world: MakeWorld, operation: Operation
) -> None:
    world = make_world(server_side=True)
    deaf(world, Deafness(operation), name="s3")

    await assert_refused(world, "target", operation)


@pytest.mark.parametrize("operation", ["put", "complete_upload", *DELETES])
async def test_a_target_of_its_own_that_does_not_heed_a_condition_is_refused(
    world: World, operation: Operation
) -> None:
    deaf(world, Deafness(operation), name="s4")

    await assert_refused(world, "target", operation)


@pytest.mark.parametrize("operation", DELETES)
async def test_a_source_that_does_not_heed_the_condition_of_a_delete_is_refused(
    world: World, operation: Operation
) -> None:
    deaf(world, Deafness(operation), name="s3")

    await assert_refused(world, "source", operation)


@pytest.mark.parametrize(("name", "operation"), [("s4", "copy"), ("s3", "put")])
async def test_only_what_a_move_relies_on_is_asked(world: World, name: str, operation: Operation) -> None:
    """Between two stores nothing is copied within one, and no condition of a write matters to the source."""
    deaf(world, Deafness(operation), name=name)
    objects = world.fill()
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)


@pytest.mark.parametrize("server_side", [False, True])
async def test_it_is_shown_before_anything_is_copied_and_outside_the_tenants_prefix(
    make_world: MakeWorld, server_side: bool
) -> None:
    world = make_world(server_side=server_side)
    objects = world.fill()
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)
    calls = world.script.mutations()
    shown = [number for number, call in enumerate(calls) if call.proves]
    others = [number for number, call in enumerate(calls) if set(call.keys) & set(objects)]
    assert max(shown) < min(others)
    in_source = {
        key for number in shown for key in calls[number].keys if calls[number].bucket == SOURCE.bucket
    }
    assert in_source == (set() if server_side else set(KEYS.both))


# --- where rekeyd may not write to the source ---


@pytest.mark.parametrize("error", [AccessDeniedError, KeyUnusableError])
async def test_a_source_that_can_not_show_it_holds_the_job(world: World, error: type[StoreError]) -> None:
    world.fill()
    world.script.always("put", bucket=SOURCE.bucket, key=KEYS.standing).fails(error)

    await held_then_mended(world, "access_denied", world.script.clear)


@pytest.mark.parametrize("error", [AccessDeniedError, KeyUnusableError])
async def test_aws_is_believed_where_it_can_not_show_it(world: World, error: type[StoreError]) -> None:
    objects = world.fill()
    world.is_aws = True
    for operation in ("put", "head", "delete"):
        world.script.always(operation, bucket=SOURCE.bucket, key=KEYS.standing).fails(error)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)


async def test_aws_is_not_believed_where_it_shows_otherwise(world: World) -> None:
    world.is_aws = True
    deaf(world, Deafness("delete"), name="s3")

    await assert_refused(world, "source", "delete")


@pytest.mark.parametrize("key", KEYS.both)
async def test_somebody_elses_object_is_not_touched(world: World, key: str) -> None:
    world.fill()
    world.put_into(world.shelf, SOURCE.bucket, key, Data(b"somebody else's"))

    def mend() -> None:
        assert world.shelf.buckets[SOURCE.bucket].objects[key].data == b"somebody else's"
        assert not [call for call in world.script.mutations() if call.bucket == SOURCE.bucket]
        del world.shelf.buckets[SOURCE.bucket].objects[key]

    await held_then_mended(world, "conflict", mend, by_itself=False)


# --- among errors ---


@pytest.mark.parametrize("bucket", [SOURCE.bucket, TARGET_BUCKET])
@pytest.mark.parametrize(("operation", "key"), [("put", KEYS.offered), ("delete", KEYS.standing)])
async def test_a_store_that_fails_holds_the_job_and_is_asked_again(
    world: World, bucket: str, operation: str, key: str
) -> None:
    world.fill()
    failing = world.script.always(operation, bucket=bucket, key=key).fails(UnavailableError)

    def mend() -> None:
        assert failing.applied
        world.script.clear()

    await held_then_mended(world, "store_unavailable", mend)


@pytest.mark.parametrize("key", KEYS.both)
@pytest.mark.parametrize("operation", ["put", "delete"])
async def test_a_lost_answer_is_no_hindrance(world: World, operation: str, key: str) -> None:
    objects = world.fill()
    lost = world.script.on(operation, bucket=TARGET_BUCKET, key=key).loses_answer(UnavailableError)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)
    assert lost.applied == 1


async def test_access_that_is_missing_in_the_target_holds_the_job(world: World) -> None:
    world.fill()
    world.script.always("complete_upload", key=KEYS.standing).fails(AccessDeniedError)

    await held_then_mended(world, "access_denied", world.script.clear)


# --- on record ---


@pytest.mark.parametrize("server_side", [False, True])
async def test_it_is_on_record_before_and_after(make_world: MakeWorld, server_side: bool) -> None:
    world = make_world(server_side=server_side)
    world.fill()
    async with world.process() as process:
        await process.move()
        (intended,) = await world.records(process.direct, "conditions.proof_intended")
        (proven,) = await world.records(process.direct, "conditions.proven")
        actions = await world.actions(process.direct)
    for record in (intended, proven):
        assert record["target"] == TARGET_BUCKET
        assert record.get("source") == (None if server_side else SOURCE.bucket)
    assert intended["objects"] == list(KEYS.both)
    assert proven["source_taken_for_granted"] is False
    assert actions.index("conditions.proof_intended") > actions.index("bucket.provisioned")


async def test_what_was_taken_for_granted_is_on_record(world: World) -> None:
    world.fill()
    world.is_aws = True
    world.script.always("put", bucket=SOURCE.bucket, key=KEYS.standing).fails(AccessDeniedError)
    async with world.process() as process:
        await process.move()
        (proven,) = await world.records(process.direct, "conditions.proven")
    assert proven["source_taken_for_granted"] is True


async def test_what_was_refused_is_not_on_record_as_proven(world: World) -> None:
    world.fill()
    deaf(world, Deafness("put"), name="s4")
    async with world.process() as process:
        await process.move()
        assert not await world.records(process.direct, "conditions.proven")
