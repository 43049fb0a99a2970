"""The certificate that a rotation ends with: what it says of each object, that it holds, that there is exactly one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rekeyd.domain.certificate import certificate_key, check_proof, evidence_key
from rekeyd.domain.errors import UnavailableError
from rekeyd.domain.leaves import RekeyedHow
from rekeyd.domain.objects import OWN_PREFIX, Attributes, Encryption
from rekeyd.domain.signed import utf8
from rekeyd.jobs.evidence_reading import prove_object
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.port import ObjectStore
from tests.doubles.in_place import RefusesSelfCopy
from tests.doubles.mortal import DiedError, Life
from tests.jobs.certified import assert_certified, leaves_of
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_certify import NoSigner
from tests.jobs.test_rotate import ROTATE, assert_rotated, moved, overwrite, rotated
from tests.jobs.test_rotate_ways import updating
from tests.jobs.world import ANOTHER_KEY, FINAL, KEY, TARGET_BUCKET, Data, Process, World


async def test_a_rotation_certifies_what_was_and_what_is_of_each_object(world: World) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
        bucket = world.target_shelf.buckets[TARGET_BUCKET].objects
        before = {key: bucket[key].etag for key in objects}
        await rotated(world, process)
        certificate = await assert_certified(world, process.direct, ROTATE)
        record, _ = await process.direct.placement(certificate.tenant)
    leaves = leaves_of(world, certificate)

    assert sorted(leaves) == sorted(objects)
    for key, leaf in leaves.items():
        (version,) = leaf.versions
        assert (leaf.outcome, leaf.target_key, version.how) == ("verified", key, "copied")
        assert version.target is not None
        assert (version.source.etag, version.target.etag) == (before[key], bucket[key].etag)
        assert version.encryption_key == ANOTHER_KEY.arn
        assert {"key", "size", "attributes", "crc64nvme"} == set(version.compared)
        assert (len(leaf.copy_requests), leaf.delete_requests) == (1, ())
    assert len({each for leaf in leaves.values() for each in leaf.copy_requests}) == len(objects)
    assert record is not None
    assert (certificate.job.kind, certificate.source, certificate.target) == (
        "rotate",
        str(world.target),
        str(world.target),
    )
    assert (certificate.key.reference, certificate.placement.epoch) == (ANOTHER_KEY.arn, record.epoch)
    assert certificate.remaining is None
    facts = certificate.rotation
    assert facts is not None
    assert (facts.did, facts.former_keys, facts.archived) == ("brought", (KEY.arn,), (KEY.arn,))
    assert facts.under_key is not None
    assert facts.under_key.current >= len(objects)
    assert [(each.reference, each.current, each.noncurrent) for each in facts.under_others] == [
        (KEY.arn, 0, 0)
    ]
    assert facts.looked_at is not None
    assert facts.looked_at <= certificate.certified_at


@pytest.mark.parametrize(
    ("make", "how", "origins"),
    [
        (lambda shelf, name: RefusesSelfCopy(shelf, name=name), "streamed", ("streamed", "read")),
        (updating, "updated", (None, None)),
    ],
)
async def test_how_each_object_came_under_the_key_is_said(
    world: World, make: object, how: RekeyedHow, origins: tuple[str | None, str | None]
) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
    world.make_store = make  # type: ignore[assignment] # of the parameters
    async with world.process() as process:
        await rotated(world, process)
        certificate = await assert_certified(world, process.direct, ROTATE)
    for leaf in leaves_of(world, certificate).values():
        (version,) = leaf.versions
        assert version.how == how
        assert version.target is not None
        found = (version.source.checksum_origin, version.target.checksum_origin)
        assert found[0] == origins[0]
        assert found[1] == origins[1] or (found[1] == "computed_by_provider" and how == "streamed")
        assert leaf.copy_requests
    assert certificate.total.objects == len(objects)


async def test_older_versions_are_told_apart_by_what_became_of_them(make_world: MakeWorld) -> None:
    world = make_world(versioned=True)
    world.put_versions("grown", Data(b"first"), Data(b"second"))
    world.put_versions("hidden", Data(b"hidden"), None)
    async with world.process() as process:
        await process.move()
        world.use_another_key()
    ids = [each.version_id for each in world.target_shelf.buckets[TARGET_BUCKET].objects.chain("grown")]
    async with world.process() as process:
        await rotated(world, process)
        leaves = leaves_of(world, await assert_certified(world, process.direct, ROTATE))
    older, current = leaves["grown"].versions
    assert (older.how, older.source.version_id, older.target) == ("left", ids[0], None)
    assert "older version" in older.reason
    assert (current.how, current.source.version_id) == ("copied", ids[1])
    assert current.target is not None
    assert current.target.version_id not in ids
    assert [(each.marker, each.how) for each in leaves["hidden"].versions] == [
        (False, "left"),
        (True, "left"),
    ]
    assert leaves["hidden"].outcome == "excluded"


async def test_older_versions_that_the_store_leads_to_the_key_are_named_with_their_requests(
    make_world: MakeWorld,
) -> None:
    world = make_world(versioned=True)
    world.put_versions("grown", Data(b"first"), Data(b"second"))
    async with world.process() as process:
        await process.move()
    world.use_another_key()
    world.make_store = updating
    async with world.process() as process:
        await rotated(world, process)
        (leaf,) = leaves_of(world, await assert_certified(world, process.direct, ROTATE)).values()
    assert [(each.how, each.encryption_key) for each in leaf.versions] == [("updated", ANOTHER_KEY.arn)] * 2
    assert all(each.target == each.source or each.target is not None for each in leaf.versions)
    assert len(leaf.copy_requests) == 2


async def test_what_stays_under_the_former_key_is_certified_as_left_with_the_reason(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        objects = world.target_shelf.buckets[TARGET_BUCKET].objects
        objects.replace("z", replace(objects["z"], attributes=Attributes(storage_class="GLACIER")))
        await rotated(world, process)
        certificate = await assert_certified(world, process.direct, ROTATE)
    leaf = leaves_of(world, certificate)["z"]
    (version,) = leaf.versions
    assert (leaf.outcome, version.how, version.encryption_key) == ("excluded", "left", KEY.arn)
    assert "archive" in version.reason
    assert certificate.outcomes["excluded"].objects == 1
    assert certificate.rotation is not None
    assert certificate.rotation.archived == ()
    (under,) = certificate.rotation.under_others
    assert (under.reference, under.current, under.lasting) == (KEY.arn, 1, 1)


@pytest.mark.parametrize("did", ["rotated by its provider", "active already", "redirected"])
async def test_a_rotation_that_moved_nothing_certifies_that(world: World, did: str) -> None:
    async with world.process() as process:
        await moved(world, process)
        if did == "redirected":
            await rotated(world, process, reencrypt="new")
        else:
            world.key = KEY
            await rotated(world, process, key=None if did == "rotated by its provider" else KEY)
        certificate = await assert_certified(world, process.direct, ROTATE)
    assert certificate.rotation is not None
    assert certificate.rotation.did == did
    assert (certificate.total.objects, certificate.evidence.files) == (0, 0)
    assert (certificate.rotation.under_key is None) == (did != "redirected")


async def test_a_later_rotation_that_moves_nothing_claims_nothing_of_an_earlier_ones_objects(
    world: World,
) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
        await rotated(world, process)
        await rotated(world, process, "rotate-2")
        first = await assert_certified(world, process.direct, ROTATE)
        second = await assert_certified(world, process.direct, "rotate-2")
    assert (first.total.objects, second.total.objects) == (len(objects), 0)
    assert second.rotation is not None
    assert second.rotation.did == "active already"


async def test_each_object_of_a_rotation_can_be_proven_alone(world: World) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
        await rotated(world, process)
        certificate = await assert_certified(world, process.direct, ROTATE)
        target = process.tools.store_of(world.target).objects
        for key in objects:
            proof = await prove_object(target, certificate, key)
            assert proof is not None
            assert check_proof(certificate, utf8(proof)).versions[0].how == "copied"


async def test_a_pass_that_finds_what_an_earlier_one_brought_keeps_what_is_known_of_it(world: World) -> None:
    """A writer's object under the former key, found by the look at every version, makes another pass necessary."""
    late = Data(b"late")
    former = Encryption("aws:kms", KEY.arn)
    async with world.process() as process:
        objects = await moved(world, process)
        etag = world.target_shelf.buckets[TARGET_BUCKET].objects["a/small"].etag
        world.script.on("copy", bucket=TARGET_BUCKET, key="z").first(
            lambda: world.put_into(world.target_shelf, TARGET_BUCKET, "late", late, former)
        )
        await rotated(world, process)
        await assert_rotated(world, process, objects | {"late": late})
        leaves = leaves_of(world, await assert_certified(world, process.direct, ROTATE))
    leaf = leaves["a/small"]
    assert (leaf.versions[0].how, leaf.versions[0].source.etag) == ("copied", etag)
    assert len(leaf.copy_requests) == 1


async def test_the_evidence_names_what_was_replaced_and_not_what_was_listed(world: World) -> None:
    newer = Data.of(b"newer", by="a writer")
    former = Encryption("aws:kms", KEY.arn)
    async with world.process() as process:
        objects = await moved(world, process)
        replaced: list[str] = []

        def replace_it() -> None:
            world.put_into(world.target_shelf, TARGET_BUCKET, "a/small", newer, former)
            replaced.append(world.target_shelf.buckets[TARGET_BUCKET].objects["a/small"].etag)

        world.script.on("copy", bucket=TARGET_BUCKET, key="a/small").first(replace_it)
        await rotated(world, process)
        await assert_rotated(world, process, objects | {"a/small": newer})
        leaves = leaves_of(world, await assert_certified(world, process.direct, ROTATE))
    assert [leaves["a/small"].versions[0].source.etag] == replaced


async def test_a_signing_key_out_of_reach_holds_the_rotation_which_is_not_done_again(world: World) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
        signer, world.signer = world.signer, NoSigner()
    async with world.process() as process:
        job = await rotated(world, process)
        assert (job.state, job.held_reason) == ("held", "custody_unavailable")
    world.signer = signer
    await world.make_due()
    copies = len([call for call in world.script.mutations() if call.operation == "copy"])
    overwrite(world, "written meanwhile", Data(b"under the new key"))
    async with world.process("later") as process:
        await process.work(ROTATE, until=FINAL)
        await assert_rotated(world, process, objects | {"written meanwhile": Data(b"under the new key")})
        certificate = await assert_certified(world, process.direct, ROTATE)
        passes = await world.records(process.direct, "pass.begun")
    assert sorted(leaves_of(world, certificate)) == sorted(objects)
    assert len([call for call in world.script.mutations() if call.operation == "copy"]) == copies
    assert [record["job"] for record in passes].count(ROTATE) == 1


async def test_a_target_that_takes_no_evidence_gives_a_rotation_no_certificate(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        world.script.always("put", key=evidence_key(ROTATE, 0)).fails(UnavailableError)
        job = await rotated(world, process)
        assert (job.state, job.held_reason) == ("held", "store_unavailable")
        assert await process.direct.certificate(ROTATE) is None


@pytest.mark.parametrize("streamed", [False, True], ids=["copied", "streamed"])
async def test_a_death_at_any_call_of_the_last_chapter_leaves_one_certificate(
    make_world: MakeWorld, *, streamed: bool
) -> None:
    first = make_world()
    async with first.process("before") as process:
        objects = await moved(first, process, {"a": Data(b"a"), "b": Data(b"b")})

    def begun() -> World:
        def make(shelf: Shelf, name: str) -> ObjectStore:
            return (RefusesSelfCopy if streamed else MemoryStore)(shelf, name=name)

        world = make_world()
        world.stand_like(first)
        world.make_store = make
        return world

    async def live(world: World, life: Life, name: str) -> None:
        async with world.process(name, life) as process:
            try:
                if not await world.known(process.direct, ROTATE):
                    await world.rotate(process.direct)
                await process.work(ROTATE)
            except* DiedError:
                assert life.dead
        await world.expire_leases()
        await world.make_due()

    life = Life()
    await live(begun(), life, "daemon-1")
    chapter = life.calls.index("ledger.archive_key")
    assert {"put", "ledger.record_certificate", "ledger.evidence_rows"} <= set(life.calls[chapter:])
    waiting = iter(range(chapter, len(life.calls) + 1))

    async def work() -> None:
        for at in waiting:
            world = begun()
            await live(world, Life(at, "after"), f"daemon-{at}")
            await live(world, Life(), "the last one")
            async with world.process("who looks") as process:
                await assert_rotated(world, process, objects)
                certificate = await assert_certified(world, process.direct, ROTATE)
                assert sorted(leaves_of(world, certificate)) == sorted(objects)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(work())


async def test_a_certificate_lies_with_the_data_under_the_new_key_and_the_moves_too(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        await rotated(world, process)
        await both_hold(world, process)
    own = [key for key in world.target_shelf.buckets[TARGET_BUCKET].objects if key.startswith(OWN_PREFIX)]
    assert {certificate_key("job-1"), certificate_key(ROTATE), evidence_key(ROTATE, 0)} <= set(own)


async def both_hold(world: World, process: Process) -> None:
    await assert_certified(world, process.direct)
    await assert_certified(world, process.direct, ROTATE)
