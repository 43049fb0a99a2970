"""Histories: every version and marker of a key is carried as a chain, or stays and is reported; none is mixed up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rekeyd.domain.errors import UnavailableError
from rekeyd.domain.objects import Attributes, Encryption, ObjectLock
from rekeyd.ledger.port import Ledger
from rekeyd.stores.guarded import Retries, RetryPolicy
from rekeyd.stores.memory.histories import Stored
from rekeyd.stores.port import HISTORY_VERSIONS_MAX
from rekeyd.transfer.copy import SUPERSEDED
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import FINAL, MEBIBYTE, SOURCE, TARGET_BUCKET, Data, World

DRESSED = Data(b"dressed", Attributes(metadata={"origin": "a test"}, tags={"team": "blue"}))
HISTORIES: Mapping[str, Sequence[Data | None]] = {
    "one": [Data(b"only")],
    "two": [Data(b"first"), Data(b"second")],
    "back and forth": [Data(b"same"), Data(b"other"), Data(b"same")],
    "deleted": [Data(b"gone"), None],
    "deleted twice": [Data(b"gone"), None, None],
    "reborn": [DRESSED, None, Data(b"again")],
    "empty": [Data(b""), Data(b"full"), Data(b"")],
    "large": [Data(b"6" * (6 * MEBIBYTE)), DRESSED],
}


@pytest.fixture(params=[False, True], ids=["streamed", "server_side"])
def world(request: pytest.FixtureRequest, make_world: MakeWorld) -> World:
    return make_world(server_side=request.param, versioned=True)


def fill(world: World, histories: Mapping[str, Sequence[Data | None]] = HISTORIES) -> None:
    for name, versions in histories.items():
        world.put_versions(name, *versions)


async def assert_moved(
    world: World, ledger: Ledger, expected: Mapping[str, Sequence[Data | None]] = HISTORIES
) -> None:
    """The target has exactly these histories, in their order, the older versions marked; the source has nothing."""
    job = await ledger.job("job-1")
    assert (job.state, job.phase) == ("completed", "done"), (job.state, job.held_reason, job.error)
    found = world.target_chains()
    assert sorted(found) == sorted(expected)
    for name, versions in expected.items():
        assert [_content(each) for each in found[name]] == [_content(each) for each in _telling(versions)], (
            name
        )
        for copy, version in zip(found[name], _telling(versions), strict=True):
            if copy is not None and version is not None:
                metadata = {k: v for k, v in copy.attributes.metadata.items() if k not in SUPERSEDED}
                assert metadata == version.attributes.metadata
                assert copy.attributes.tags == version.attributes.tags
    assert world.source_chains() == {}
    assert world.lost == []
    assert world.target_shelf.uploads == {}
    await world.assert_trail(ledger)


def _content(data: Data | None) -> bytes | None:
    return None if data is None else data.content


def _telling(versions: Sequence[Data | None]) -> list[Data | None]:
    """Without markers that hide what is hidden already."""
    return [each for index, each in enumerate(versions) if each or (index and versions[index - 1])]


async def test_every_history_is_carried_whole_and_in_its_order(world: World) -> None:
    fill(world)
    async with world.process() as process:
        await process.move()
        await assert_moved(world, process.direct)
        job = await process.direct.job("job-1")
        assert job.counts.objects_deleted == len(HISTORIES)
        assert job.error is None
    marked = [
        (
            name,
            [copy is not None and SUPERSEDED.items() <= copy.attributes.metadata.items() for copy in chain],
        )
        for name, chain in world.target_chains().items()
    ]
    assert ("back and forth", [True, True, False]) in marked
    assert ("reborn", [True, False, False]) in marked


async def test_what_was_written_before_versioning_is_the_oldest(make_world: MakeWorld) -> None:
    world = make_world()
    world.put("k", Data(b"null"))
    world.shelf.make_bucket(SOURCE.bucket, versioned=True)
    world.put("k", Data(b"versioned"))
    async with world.process() as process:
        await process.move()
        await assert_moved(world, process.direct, {"k": [Data(b"null"), Data(b"versioned")]})


async def test_writers_go_on_adding_hiding_and_purging_versions(world: World) -> None:
    fill(world)

    def change() -> None:
        objects = world.shelf.buckets[SOURCE.bucket].objects
        world.put_versions("one", Data(b"and another"))
        world.put_versions("deleted", Data(b"back"))
        world.put_versions("two", None)
        for name, position in (("back and forth", 1), ("reborn", 2)):
            key = SOURCE.prefix + name
            objects.drop(key, objects.chain(key)[position].version_id)
        for stored in objects.chain(SOURCE.prefix + "empty"):
            objects.drop(SOURCE.prefix + "empty", stored.version_id)

    world.script.on("list_versions_page", bucket=SOURCE.bucket, key=SOURCE.prefix, nth=2).first(change)
    async with world.process() as process:
        await process.move()
        expected = {
            **HISTORIES,
            "one": [Data(b"only"), Data(b"and another")],
            "deleted": [Data(b"gone"), None, Data(b"back")],
            "two": [Data(b"first"), Data(b"second"), None],
            "back and forth": [Data(b"same"), Data(b"same")],
            "reborn": [DRESSED, None],
        }
        del expected["empty"]
        await assert_moved(world, process.direct, expected)


@pytest.mark.parametrize("operation", ["put", "copy", "hide", "complete_upload", "delete"])
async def test_a_lost_answer_anywhere_in_a_chain_is_settled_by_reading(world: World, operation: str) -> None:
    world.object_attempts_max = 10
    fill(world)
    first = 4 if operation == "put" else 1  # provisioning puts a canary and a probe
    for nth in range(first, first + 11, 3):
        world.script.on(operation, bucket=TARGET_BUCKET, nth=nth).loses_answer(UnavailableError)
        world.script.on(operation, bucket=TARGET_BUCKET, nth=nth + 1).fails(UnavailableError)
    async with world.process() as process:
        await process.move()
        await assert_moved(world, process.direct)


async def test_a_foreign_version_in_a_history_is_kept_and_holds_the_job(world: World) -> None:
    fill(world, {"two": HISTORIES["two"]})
    foreign = Data(b"written by somebody else, of another size")
    world.script.on("list_versions_page", bucket=SOURCE.bucket, key=SOURCE.prefix).then(
        lambda: world.put_into(
            world.target_shelf, TARGET_BUCKET, "two", foreign, Encryption("aws:kms", world.key.arn)
        )
    )
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "conflict")
    assert _content(world.target_chains()["two"][0]) == foreign.content
    assert [_content(each) for each in world.source_chains()["two"]] == [b"first", b"second"]


async def test_moved_without_histories_older_versions_stay_hidden_and_are_reported(world: World) -> None:
    fill(world)
    async with world.process() as process:
        await process.move(versions="current")
        job = await process.direct.job("job-1")
        assert job.state == "completed", job.error
    current = {name: chain[-1] for name, chain in HISTORIES.items() if chain[-1] is not None}
    assert {name: [_content(data)] for name, data in current.items()} == {
        name: [_content(each) for each in chain] for name, chain in world.target_chains().items()
    }
    assert world.in_source() == {}, "what is beneath a deleted version has come back to life"
    left = {name: [_content(each) for each in chain] for name, chain in world.source_chains().items()}
    assert left["two"] == [b"first", None]
    assert left["deleted"] == [b"gone", None]
    assert "one" not in left
    assert "versions and markers" in str(job.error)
    assert world.lost == []


async def test_nothing_but_markers_is_excluded_with_a_reason_and_stays(world: World) -> None:
    fill(world, {"one": HISTORIES["one"], "ghost": [None]})
    async with world.process() as process:
        await process.move()
        job = await process.direct.job("job-1")
    assert (job.state, job.counts.objects_excluded) == ("completed", 1)
    assert job.counts.objects_listed == job.counts.objects_verified + job.counts.objects_excluded
    assert list(world.source_chains()) == ["ghost"]
    assert "ghost" in str(job.error)


async def test_too_long_a_history_holds_the_job_before_it_is_half_moved(world: World) -> None:
    fill(world, {"two": HISTORIES["two"]})
    too_long = ("tenants/acme/long",)
    world.script.on("list_versions_page", bucket=SOURCE.bucket, key=SOURCE.prefix).answers(
        lambda page: replace(page, too_long=too_long)
    )
    async with world.process() as process:
        job = await process.move()
    assert (job.state, job.held_reason) == ("held", "unmovable_objects")
    assert too_long[0] in str(job.error)
    assert str(HISTORY_VERSIONS_MAX) in str(job.error)


def _change(world: World, name: str, **changes: object) -> None:
    objects = world.shelf.buckets[SOURCE.bucket].objects
    key = SOURCE.prefix + name
    newest: Stored = objects.chain(key)[-1]
    objects.replace(key, replace(newest, **changes))  # type: ignore[arg-type] # fields of Stored


@pytest.mark.parametrize("versioned", [False, True], ids=["unversioned", "versioned"])
@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
async def test_an_archived_object_holds_the_job_until_it_is_restored(
    make_world: MakeWorld, versioned: bool, server_side: bool
) -> None:
    world = make_world(server_side=server_side, versioned=versioned)
    world.put("cold", Data(b"cold", Attributes(storage_class="GLACIER")))
    world.put("warm", Data(b"warm"))
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "needs_restore")
        assert "cold" in str(job.error)
        assert set(world.in_source()) == {"cold", "warm"}
    _change(world, "cold", restored=True)
    async with world.process() as process:
        await process.direct.resume_job("job-1", "an operator")
        await process.work()
        job = await process.direct.job("job-1")
        assert job.state == "completed", (job.held_reason, job.error)
    assert {name: data.content for name, data in world.in_target().items()} == {
        "cold": b"cold",
        "warm": b"warm",
    }
    assert world.in_source() == {}


@pytest.mark.parametrize("versioned", [False, True], ids=["unversioned", "versioned"])
@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
@pytest.mark.parametrize("algorithm", ["SSE-C", "aws:kms:dsse"])
async def test_what_is_encrypted_in_a_way_that_can_not_be_moved_is_named(
    make_world: MakeWorld, versioned: bool, server_side: bool, algorithm: str
) -> None:
    world = make_world(server_side=server_side, versioned=versioned)
    world.fill({"fine": Data(b"fine")})
    world.put_into(world.shelf, SOURCE.bucket, SOURCE.prefix + "odd", Data(b"odd"), Encryption(algorithm))
    async with world.process() as process:
        job = await process.move()
    assert (job.state, job.held_reason) == ("held", "unmovable_objects")
    assert "odd" in str(job.error)
    assert set(world.in_source()) == {"fine", "odd"}
    assert "odd" not in world.in_target()


def _locked(content: bytes, *, days: float | None = None, hold: bool = False) -> Data:
    until = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    lock = ObjectLock("COMPLIANCE" if until else None, until, legal_hold=hold)
    return Data(content, Attributes(lock=lock))


@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
async def test_locks_travel_along_and_what_they_keep_in_the_source_is_reported(
    make_world: MakeWorld, server_side: bool
) -> None:
    world = make_world(server_side=server_side, object_lock=True)
    histories = {
        "retained": [Data(b"before"), _locked(b"retained", days=1)],
        "held": [_locked(b"held", hold=True)],
        "expired": [_locked(b"expired", days=-1)],
        "free": [Data(b"free"), Data(b"freer")],
    }
    fill(world, histories)
    async with world.process() as process:
        await process.move()
        job = await process.direct.job("job-1")
    assert job.state == "completed", (job.held_reason, job.error)
    found = world.target_chains()
    for name in ("retained", "held"):
        copy, version = found[name][-1], histories[name][-1]
        assert copy is not None
        assert version is not None
        assert copy.attributes.lock == version.attributes.lock
    assert found["expired"][-1] is not None
    assert found["expired"][-1].attributes.lock is None
    assert sorted(world.source_chains()) == ["held", "retained"]
    assert "the source still holds" in str(job.error)
    assert world.target_shelf.buckets[TARGET_BUCKET].object_lock


async def test_a_source_that_is_gone_when_a_deletion_is_resumed_was_deleted(world: World) -> None:
    """Its copy has been replaced by a writer since: still nothing remains."""
    world.retries = Retries(RetryPolicy(attempts_max=1), jitter=lambda: 0.0, sleep=asyncio.sleep)
    fill(world, {"one": HISTORIES["one"]})
    lost = world.script.on("delete", bucket=SOURCE.bucket).loses_answer(UnavailableError)
    lost.then(lambda: _purge(world, "one"))
    async with world.process() as process:
        await world.admit(process.direct)
        await process.work()
    await world.make_due()
    await world.expire_leases()
    async with world.process() as process:
        await process.work(until=FINAL)
        job = await process.direct.job("job-1")
    assert (job.counts.objects_deleted, job.error) == (1, None)


def _purge(world: World, name: str) -> None:
    objects = world.target_shelf.buckets[TARGET_BUCKET].objects
    for stored in objects.chain(name):
        objects.drop(name, stored.version_id)
