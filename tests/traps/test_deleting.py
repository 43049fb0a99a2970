"""What others deleted and shouldn't have.

| trap that others fell into | must hold here |
|---|---|
| delete after a failed or vanished copy | 200 with an error inside, or HEAD 404 after a copy: the source stays |
| source overwritten in mid-copy, or before the delete | parts are pinned; the newer object survives |
| failed or empty listing read as "all gone" | deletes come from verified rows only |
| wrong version deleted | deletes name the version |
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.domain.errors import NotFoundError, UnavailableError
from rekeyd.domain.objects import OWN_PREFIX
from rekeyd.stores.port import ListingPage, VersionsPage
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import FINAL, MEBIBYTE, SOURCE, TARGET_BUCKET, Data, World

BOTH_WAYS = pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])


def assert_nothing_deleted(world: World, kept: dict[str, Data]) -> None:
    """The source has every object, byte for byte, and nobody tried to delete any."""
    assert {name: data.content for name, data in world.in_source().items()} == {
        name: data.content for name, data in kept.items()
    }
    assert world.script.count("delete", SOURCE.bucket) == 0


@BOTH_WAYS
async def test_delete_after_a_vanished_copy(make_world: MakeWorld, server_side: bool) -> None:
    """Every write succeeds, and a HEAD of the copy says 404."""
    world = make_world(server_side=server_side)
    objects = world.fill()
    world.script.always("head", bucket=TARGET_BUCKET, key="z").fails(NotFoundError)
    async with world.process() as process:
        job = await process.move()
        assert job.state == "held", job
        assert job.counts.objects_verified < len(objects)
        assert_nothing_deleted(world, objects)
        world.script.clear()
    async with world.process() as process:
        await process.direct.resume_job("job-1", "an operator")
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)


@BOTH_WAYS
async def test_delete_after_a_copy_that_vanished_since_it_was_verified(
    make_world: MakeWorld, server_side: bool
) -> None:
    """Verified, switched, and gone right before its source would have been deleted."""
    world = make_world(server_side=server_side)
    objects = world.fill({"a": Data(b"a"), "b": Data(b"b")})
    target = world.target_shelf.buckets

    def lose_the_copy() -> None:
        target[TARGET_BUCKET].objects.pop("a", None)

    world.script.always("list_uploads", bucket=TARGET_BUCKET).then(lose_the_copy)
    async with world.process() as process:
        job = await process.move()
    assert job.state == "completed"
    assert "'tenants/acme/a'" in str(job.error), "what remains is reported"
    assert {name: data.content for name, data in world.in_source().items()} == {"a": objects["a"].content}
    deleted = [version.key for call in world.script.calls for version in call.versions]
    assert [key for key in deleted if not key.startswith(OWN_PREFIX)] == [SOURCE.prefix + "b"]


@BOTH_WAYS
async def test_source_overwritten_in_mid_copy(make_world: MakeWorld, server_side: bool) -> None:
    """Between two parts, by as many other bytes: never a mixture, and in the end the newer one."""
    world = make_world(server_side=server_side)
    world.fill({"large": Data(b"1" * (11 * MEBIBYTE))})
    newer = Data(b"2" * (11 * MEBIBYTE))
    # The source reports no checksum by which a mixture could be found out later.
    world.script.always("head", bucket=SOURCE.bucket).answers(lambda head: replace(head, crc64nvme=None))
    operation = "copy_part" if server_side else "put_part"
    overwriting = world.script.on(operation, nth=2).first(lambda: world.put("large", newer))
    published: list[bytes] = []
    world.script.always("complete_upload", bucket=TARGET_BUCKET).then(
        lambda: published.append(world.in_target()["large"].content)
    )
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, {"large": newer})
    assert overwriting.applied == 1
    assert published == [newer.content]


@BOTH_WAYS
async def test_source_overwritten_before_the_delete(make_world: MakeWorld, server_side: bool) -> None:
    """By a writer that broke its promise, with the delete on its way: the newer object survives and is reported."""
    world = make_world(server_side=server_side)
    objects = world.fill({"a": Data(b"a"), "b": Data(b"b")})
    newer = Data(b"A")
    world.script.on("delete", bucket=SOURCE.bucket).first(lambda: world.put("a", newer))
    async with world.process() as process:
        job = await process.move()
    assert job.state == "completed"
    assert "'tenants/acme/a'" in str(job.error)
    assert {name: data.content for name, data in world.in_source().items()} == {"a": newer.content}
    assert {name: data.content for name, data in world.in_target().items()} == {
        name: data.content for name, data in objects.items()
    }


@pytest.mark.parametrize("versioned", [False, True], ids=["unversioned", "versioned"])
@pytest.mark.parametrize("nth", [2, 3], ids=["while writers go on", "in the pause"])
async def test_failed_or_empty_listing_read_as_all_gone(
    make_world: MakeWorld, versioned: bool, nth: int
) -> None:
    """A listing fails, is repeated, and comes back whole, well-formed and empty: no copy goes, nothing is lost."""
    world = make_world(versioned=versioned)
    objects = world.fill({name: Data(name.encode()) for name in ("a", "b", "c")})
    operation, empty = (
        ("list_versions_page", VersionsPage((), None))
        if versioned
        else (
            "list_page",
            ListingPage((), None),
        )
    )
    failing = world.script.on(operation, bucket=SOURCE.bucket, key=SOURCE.prefix, nth=nth)
    failing.fails(UnavailableError)
    lying = world.script.on(operation, bucket=SOURCE.bucket, key=SOURCE.prefix, nth=nth + 1)
    lying.answers(lambda _: empty)
    async with world.process() as process:
        job = await process.move()
        assert job.state == "completed", job
        assert job.counts.objects_verified == job.counts.objects_deleted == len(objects)
    assert failing.applied == lying.applied == 1
    assert world.script.count("delete", TARGET_BUCKET) == 0
    found = {name: data.content for name, data in world.in_target().items()}
    assert found == {name: data.content for name, data in objects.items()}
    assert world.in_source() == {}


async def test_what_no_row_knows_is_not_deleted_although_the_source_lists_it(world: World) -> None:
    """Deletes come from verified rows only: what came after the last listing is nobody's to delete."""
    world.fill({"a": Data(b"a")})
    late = Data(b"written after the switch, by a broken promise")
    world.script.always("list_uploads", bucket=TARGET_BUCKET).then(lambda: world.put("late", late))
    async with world.process() as process:
        job = await process.move()
    assert job.state == "completed"
    assert {name: data.content for name, data in world.in_source().items()} == {"late": late.content}
    assert set(world.in_target()) == {"a"}


@BOTH_WAYS
async def test_wrong_version_deleted(make_world: MakeWorld, server_side: bool) -> None:
    """Every delete names the very versions that were verified; a version that came since stands, whole."""
    world = make_world(server_side=server_side, versioned=True)
    world.put_versions("a", Data(b"1"), Data(b"2"))
    world.put_versions("b", Data(b"1"))
    chains = world.shelf.buckets[SOURCE.bucket].objects
    verified = {
        (SOURCE.prefix + name, version.version_id)
        for name in ("a", "b")
        for version in chains.chain(SOURCE.prefix + name)
    }
    world.script.on("list_uploads", bucket=TARGET_BUCKET).then(
        lambda: world.put_versions("a", Data(b"3"), None)
    )
    async with world.process() as process:
        job = await process.move()
    deleted = [
        (version.key, version.version_id)
        for call in world.script.calls
        if (call.operation, call.bucket) == ("delete", SOURCE.bucket)
        for version in call.versions
    ]
    assert sorted(deleted) == sorted(verified)
    assert job.state == "completed"
    assert "'tenants/acme/a'" in str(job.error)
    left = {name: [each and each.content for each in chain] for name, chain in world.source_chains().items()}
    assert left == {"a": [b"3", None]}
