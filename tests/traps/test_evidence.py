"""What others took for proof, and what they made of its absence.

| trap that others fell into | must hold here |
|---|---|
| ETag taken for a hash; endless recopy when it differs | checksums decide |
| truncated object published | upload aborted, what stood before stands |
| good copy judged corrupt and deleted | inconclusive deletes neither side |
| timestamps as change detection | version and ETag decide |
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from rekeyd.domain.errors import UnavailableError
from rekeyd.domain.evidence import Evidence, judge
from rekeyd.domain.objects import OWN_PREFIX, Attributes, Checksum, Encryption
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import FINAL, KEY, MEBIBYTE, SOURCE, TARGET_BUCKET, Data, World

BOTH_WAYS = pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])


def writes_by_key(world: World) -> Counter[str]:
    """How often something was published under each of the tenant's keys in the target."""
    return Counter(
        call.keys[0]
        for call in world.script.calls
        if call.operation in {"put", "copy", "complete_upload"}
        and call.bucket == TARGET_BUCKET
        and not call.keys[0].startswith(OWN_PREFIX)
    )


async def test_etag_taken_for_a_hash(make_world: MakeWorld) -> None:
    """The copy has its source's ETag, size and no checksum, and other bytes: that is seen, and nothing is deleted."""
    world = make_world(server_side=True)
    objects = world.fill({"a": Data(b"what was written")})
    buckets = world.shelf.buckets
    source = buckets[SOURCE.bucket].objects
    source.replace(SOURCE.prefix + "a", replace(source[SOURCE.prefix + "a"], crc64nvme=None))

    def corrupt() -> None:
        target = buckets[TARGET_BUCKET].objects
        etag = source[SOURCE.prefix + "a"].etag
        target.replace("a", replace(target["a"], data=b"What was written", etag=etag, crc64nvme=None))

    def with_that_etag(written: object) -> object:
        return replace(written, etag=source[SOURCE.prefix + "a"].etag)  # type: ignore[type-var] # Written

    for operation in ("copy", "put"):
        world.script.always(operation, bucket=TARGET_BUCKET, key="a").then(corrupt).answers(with_that_etag)
    async with world.process() as process:
        job = await process.move()
    assert (job.state, job.held_reason) == ("held", "unverified_objects")
    assert "crc64nvme differs" in str(job.error)
    assert world.metrics.verdicts == ["mismatch"] * world.object_attempts_max
    assert world.in_source()["a"].content == objects["a"].content
    assert world.script.count("delete", SOURCE.bucket) == 0


@BOTH_WAYS
async def test_endless_recopy_when_the_etag_differs(make_world: MakeWorld, server_side: bool) -> None:
    """No ETag of the target is one of the source's. Each object is written once, in however many passes."""
    world = make_world(server_side=server_side)
    objects = world.fill()
    passes = 0

    def change_one() -> None:
        nonlocal passes
        passes += 1
        world.put("changing", Data(f"{passes}".encode()))

    world.script.on("list_page", bucket=SOURCE.bucket, times=3).first(change_one)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, {**objects, "changing": Data(b"3")})
    assert passes == 3
    assert writes_by_key(world) == Counter({**dict.fromkeys(objects, 1), "changing": 3})


@pytest.mark.parametrize("mebibytes", [1, 6], ids=["in one request", "in parts"])
async def test_truncated_object_published(world: World, mebibytes: int) -> None:
    """A newer version comes in short, again and again: the copy that stood before stands; no upload is left."""
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)
    older, newer = Data(b"older"), Data(b"n" * (mebibytes * MEBIBYTE))
    world.fill({"a": older})
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(lambda: world.put("a", newer))
    short = world.script.on("read", bucket=SOURCE.bucket, nth=2, times=None)
    short.gives_bytes(lambda data: data[:-1])
    # It reports no checksum either: only the length tells.
    world.script.always("head", bucket=SOURCE.bucket).answers(lambda head: replace(head, crc64nvme=None))
    objects = world.shelf.buckets[SOURCE.bucket].objects

    def forget_the_checksum() -> None:
        objects.replace(SOURCE.prefix + "a", replace(objects[SOURCE.prefix + "a"], crc64nvme=None))

    world.script.always("read", bucket=SOURCE.bucket).first(forget_the_checksum)
    async with world.process() as process:
        job = await process.move()
    assert job.state == "held", job
    assert short.applied > 1
    assert {name: data.content for name, data in world.in_target().items()} == {"a": older.content}
    assert world.in_source()["a"].content == newer.content
    assert world.target_shelf.uploads == {}
    assert world.script.count("delete", TARGET_BUCKET) == 0
    world.script.clear()
    async with world.process() as process:
        await process.direct.resume_job("job-1", "an operator")
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, {"a": newer})


async def test_good_copy_judged_corrupt_and_deleted(world: World) -> None:
    """The copy is good; whenever it is read to be verified it comes damaged: neither side is deleted."""
    objects = world.fill({"a": Data(b"good"), "b": Data(b"good, too")})
    damaged = world.script.always("read", bucket=TARGET_BUCKET, key="a").gives_bytes(lambda _: b"GOOD")
    async with world.process() as process:
        job = await process.move()
    assert damaged.applied
    assert (job.state, job.held_reason) == ("held", "unverified_objects")
    for found in (world.in_source(), world.in_target()):
        assert {name: data.content for name, data in found.items()} == {
            name: data.content for name, data in objects.items()
        }
    assert world.script.count("delete") == 0


@BOTH_WAYS
async def test_good_copy_that_can_not_be_judged_is_deleted_on_neither_side(
    make_world: MakeWorld, server_side: bool
) -> None:
    """No read of the target ends, nor does it report a checksum: there is no verdict, and both sides stand."""
    world = make_world(server_side=server_side)
    objects = world.fill({"a": Data(b"good")})
    world.script.always("head", bucket=TARGET_BUCKET, key="a").answers(
        lambda head: replace(head, crc64nvme=None)
    )
    world.script.always("read", bucket=TARGET_BUCKET, key="a").fails(UnavailableError)
    async with world.process() as process:
        job = await process.move()
    assert job.state == "held", job
    assert job.counts.objects_verified == 0
    assert world.metrics.verdicts == []
    for found in (world.in_source(), world.in_target()):
        assert {name: data.content for name, data in found.items()} == {
            name: data.content for name, data in objects.items()
        }
    assert world.script.count("delete") == 0


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("checksum", [None, Checksum(7, "carried")], ids=["none", "carried along"])
def test_absent_evidence_is_inconclusive_and_never_equality(side: str, checksum: Checksum | None) -> None:
    known = Evidence(4, Checksum(7, "read"), Attributes(), {}, Encryption("aws:kms", KEY.arn))
    unknown = replace(known, checksum=checksum)
    pair = (unknown, known) if side == "source" else (known, unknown)
    assert judge(*pair, KEY.arn).verdict == "inconclusive"


@BOTH_WAYS
@pytest.mark.parametrize("when", ["the same time", "an earlier time"])
async def test_timestamps_as_change_detection(make_world: MakeWorld, server_side: bool, when: str) -> None:
    """As many other bytes, written within one tick of the clock, or before it was set back: the ETag is another."""
    world = make_world(server_side=server_side)
    world.fill({"a": Data(b"first"), "kept": Data(b"kept")})
    objects = world.shelf.buckets[SOURCE.bucket].objects

    def overwrite() -> None:
        modified = objects[SOURCE.prefix + "a"].modified if when == "the same time" else "time 0"
        world.put("a", Data(b"other"))
        objects.replace(SOURCE.prefix + "a", replace(objects[SOURCE.prefix + "a"], modified=modified))

    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(overwrite)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, {"a": Data(b"other"), "kept": Data(b"kept")})


async def test_timestamps_of_deletion_decide_nothing_either(world: World) -> None:
    """Overwritten since it was verified, with the same time: the delete names an ETag, and the newer one stands."""
    world.fill({"a": Data(b"first")})
    objects = world.shelf.buckets[SOURCE.bucket].objects

    def overwrite() -> None:
        modified = objects[SOURCE.prefix + "a"].modified
        world.put("a", Data(b"other"))
        objects.replace(SOURCE.prefix + "a", replace(objects[SOURCE.prefix + "a"], modified=modified))

    world.script.on("delete", bucket=SOURCE.bucket).first(overwrite)
    async with world.process() as process:
        assert (await process.move()).state == "completed"
    assert world.in_source()["a"].content == b"other"
    assert world.in_target()["a"].content == b"first"
