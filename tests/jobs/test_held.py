"""What stands in the way holds the job, or fails it, with its reason; mended, the job goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from rekeyd.domain.errors import AccessDeniedError, StoreRefusedError, UnavailableError
from rekeyd.domain.job import HeldReason, Job
from rekeyd.domain.objects import Encryption
from rekeyd.jobs.worker import Worker
from rekeyd.ledger import rows
from rekeyd.stores.buckets import BucketDescription
from rekeyd.stores.port import ListingPage
from tests.doubles.mortal import Life
from tests.jobs.world import FINAL, KEY, SOURCE, TARGET_BUCKET, TENANT, Data, World, eventually

OTHER_KEY = KEY.model_copy(update={"arn": KEY.arn + "-other"})


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two objects a segment."""
    monkeypatch.setattr(rows, "SEGMENT_OBJECTS_MAX", 2)


async def held_then_mended(
    world: World, reason: HeldReason, mend: Callable[[], object], *, by_itself: bool = True
) -> Job:
    """The job is held for the reason, nothing in the source is touched; mended, it ends as it should.

    Gives the job as it was held.
    """
    expected = world.in_source()
    async with world.process() as process:
        await world.admit(process.direct)
        async with process.working() as task:
            job = await process.reached(("held", *FINAL), task=task)
            assert (job.state, job.held_reason) == ("held", reason), (job.state, job.held_reason, job.error)
            assert world.in_source() == expected
            assert world.script.count("delete", SOURCE.bucket) == 0
            mend()
            await world.make_due()
            if by_itself:
                process.tools.work_came.set()
            else:
                assert (await process.direct.job("job-1")).state == "held"
                await process.direct.resume_job("job-1", "an operator")
            await process.reached(FINAL, task=task)
        await world.assert_moved(process.direct, expected)
        return job


def _set(world: World, name: str, value: str) -> None:
    setattr(world.custody.keys[KEY.arn], name, value)


@pytest.mark.parametrize(
    ("reason", "harm", "mend"),
    [
        ("key_missing", lambda w: w.custody.keys.clear(), lambda w: w.custody.add(KEY)),
        ("key_missing", lambda w: w.custody.aliases.clear(), lambda w: w.custody.add(KEY)),
        ("key_disabled", lambda w: _set(w, "state", "Disabled"), lambda w: _set(w, "state", "Enabled")),
        ("key_pending_deletion", lambda w: _set(w, "state", "PendingDeletion"), lambda w: w.enable_key()),
        ("key_unusable", lambda w: _set(w, "state", "PendingImport"), lambda w: w.enable_key()),
        (
            "key_wrong_usage",
            lambda w: _set(w, "usage", "SIGN_VERIFY"),
            lambda w: _set(w, "usage", "ENCRYPT_DECRYPT"),
        ),
        (
            "key_wrong_region",
            lambda w: w.target_shelf.make_bucket(TARGET_BUCKET, "eu-central-1"),
            lambda w: w.target_shelf.buckets.pop(TARGET_BUCKET),
        ),
        (
            "key_alias_mismatch",
            lambda w: w.custody.add(OTHER_KEY),
            lambda w: w.custody.add(KEY),
        ),
        (
            "key_access_denied",
            lambda w: w.custody.forbidden.add(KEY.arn),
            lambda w: w.custody.forbidden.clear(),
        ),
        (
            "custody_unavailable",
            lambda w: setattr(w.custody, "unreachable", True),
            lambda w: setattr(w.custody, "unreachable", False),
        ),
    ],
)
async def test_a_key_that_will_not_do_holds_the_job_before_anything_is_written(
    world: World, reason: HeldReason, harm: Callable[[World], object], mend: Callable[[World], object]
) -> None:
    world.fill({"a": Data(b"a")})
    harm(world)

    def untouched_then_mended() -> None:
        assert world.script.mutations() == []
        mend(world)

    await held_then_mended(world, reason, untouched_then_mended)


async def test_a_key_disabled_while_copying_holds_the_job_until_it_is_enabled(world: World) -> None:
    world.fill({f"{number}": Data(b"data" * number) for number in range(12)})
    world.script.on("put", key="5").first(world.disable_key)
    expected = world.in_source()
    async with world.process() as process:
        job = await process.move()
        assert job.state == "held"
        assert job.held_reason in {"key_disabled", "key_unusable"}
        puts = world.script.count("put")
        assert world.script.count("delete", SOURCE.bucket) == 0
    world.enable_key()
    await world.make_due()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, expected)
    assert puts < 12 + 2 + 4  # no storm: each object at most once, and those in flight once more


@pytest.mark.usefixtures("small_segments")
async def test_key_revoked_in_mid_job(world: World) -> None:
    """Held; no deletes; resumes."""
    world.segments_max = 1
    world.fill({f"{number}": Data(b"data") for number in range(8)})
    expected = world.in_source()
    world.script.on("delete", bucket=SOURCE.bucket).then(world.disable_key)
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.phase) == ("held", "retire")
        assert job.held_reason in {"key_disabled", "key_unusable"}
        assert await world.key_state(process.direct) == "unavailable"
    assert world.script.count("delete", SOURCE.bucket) == 1
    assert len(world.in_source()) == 6
    async with world.process() as process:  # looked at again while it is still disabled
        await world.make_due()
        async with process.working() as task:
            looked = len(world.metrics.key_checks)

            async def looked_again() -> bool:
                return len(world.metrics.key_checks) > looked and not await world.claimed()

            await eventually(looked_again)
            await process.reached(("held",), task=task)
    assert world.script.count("delete", SOURCE.bucket) == 1
    world.enable_key()
    await world.make_due()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, expected)
        assert await world.key_state(process.direct) == "active"


async def test_a_canary_that_is_another_tenants_holds_the_job_before_any_delete(world: World) -> None:
    world.fill()

    def replace_canary() -> None:
        canary = Data(b"rekeyd canary of somebody else")
        encryption = Encryption("aws:kms", KEY.arn)
        world.put_into(world.target_shelf, TARGET_BUCKET, ".rekeyd/canary", canary, encryption)

    async def switched(_record: object) -> None:
        replace_canary()

    async with world.process() as process:
        process.seen_ledger.after["switch"] = switched
        job = await process.move()
    assert (job.state, job.held_reason, job.phase) == ("held", "drift", "retire")
    assert world.script.count("delete", SOURCE.bucket) == 0


async def test_objects_that_can_not_be_carried_hold_the_job_for_a_person(world: World) -> None:
    world.fill()
    refusing = world.script.always("put", key="a/small").fails(StoreRefusedError)

    def mend() -> None:
        assert not world.metrics.pauses, "no pause was taken"
        assert set(world.in_target()) == set(world.in_source()) - {"a/small"}
        world.script.clear()

    await held_then_mended(world, "unverified_objects", mend, by_itself=False)
    assert refusing.applied == world.object_attempts_max
    assert world.metrics.failures == ["error"] * world.object_attempts_max


async def test_foreign_content_in_the_target_is_kept_and_holds_the_job(world: World) -> None:
    objects = world.fill()
    foreign = Data(b"somebody else's, of another length")
    encryption = Encryption("aws:kms", KEY.arn)
    world.script.on("put", key="z").first(
        lambda: world.put_into(world.target_shelf, TARGET_BUCKET, "z", foreign, encryption)
    )
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "conflict")
        assert "'tenants/acme/z'" in str(job.error)
        await world.make_due()
        assert await process.direct.claim_job("daemon-2", 1.0) is None, "a person's to decide"
        record, _ = await process.direct.placement(TENANT)
        assert record is not None
        assert record.phase == "shared"
    assert world.in_target()["z"].content == foreign.content
    assert set(world.in_source()) == set(objects)
    assert world.script.count("delete", SOURCE.bucket) == 0
    assert world.script.count("delete", TARGET_BUCKET) == 0


async def test_a_listing_that_fails_deletes_nothing_and_is_taken_up_again(world: World) -> None:
    world.script.page_objects_max = 2
    world.fill()
    # The third page of the second pass: what the first pass carried is all there is of it in the ledger.
    failing = world.script.on("list_page", bucket=SOURCE.bucket, nth=6, times=None).fails(UnavailableError)

    def mend() -> None:
        assert failing.applied >= 1
        assert world.script.count("delete") == 0
        assert len(world.in_target()) == len(world.in_source())
        world.script.clear()

    await held_then_mended(world, "store_unavailable", mend)


async def test_a_page_that_is_followed_by_itself_deletes_nothing(world: World) -> None:
    world.fill()
    last = "key:" + max(SOURCE.prefix + name for name in world.in_source())

    def again(page: ListingPage) -> ListingPage:
        return replace(page, resume_after=last)

    world.script.always("list_page", bucket=SOURCE.bucket).answers(again)
    await held_then_mended(world, "attempts_exhausted", world.script.clear, by_itself=False)


@pytest.mark.parametrize("bucket", [SOURCE.bucket, TARGET_BUCKET])
async def test_a_store_that_refuses_us_holds_the_job(world: World, bucket: str) -> None:
    world.fill({"a": Data(b"a")})
    world.script.always("describe", bucket=bucket).fails(AccessDeniedError)
    await held_then_mended(world, "access_denied", world.script.clear)


async def test_the_reason_is_the_stores_where_the_key_is_in_the_region_of_its_bucket(world: World) -> None:
    """Whatever region the settings give the store: the bucket may be in another."""
    world.fill({"a": Data(b"a")})
    world.target_shelf.make_bucket(TARGET_BUCKET, "us-east-1")
    world.region = "eu-central-1"
    world.script.on("list_page", bucket=SOURCE.bucket).fails(AccessDeniedError)
    await held_then_mended(world, "access_denied", world.script.clear)


async def test_a_store_that_the_settings_no_longer_have_holds_its_jobs_and_stops_nobody(world: World) -> None:
    expected = world.fill()
    arrived = asyncio.Event()
    world.script.on("put", key="z").hangs(arrived)
    life = Life()
    async with world.process(life=life) as process:
        await world.admit(process.direct)
        work = asyncio.create_task(process.worker.run())
        await arrived.wait()
        life.die()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    await world.expire_leases()
    async with world.process() as process:
        stores = {"s3": process.tools.stores["s3"]}
        process.worker = Worker(replace(process.tools, stores=stores), "daemon-2", jobs_max=1, segments_max=1)
        job = await process.work()
        assert (job.state, job.held_reason) == ("held", "attempts_exhausted")
        assert "there is no store s4" in str(job.error)
    async with world.process() as process:
        await process.direct.resume_job("job-1", "an operator")
        await process.work()
        await world.assert_moved(process.direct, expected)


@pytest.mark.parametrize("operation", ["put", "delete", "list_page", "read", "head"])
async def test_access_lost_while_working_holds_the_job(world: World, operation: str) -> None:
    world.fill({"a": Data(b"a"), "b": Data(b"b")})
    expected = world.in_source()
    nth = {"put": 3, "head": 4}.get(operation, 1)
    denied = world.script.on(operation, nth=nth, times=2).fails(AccessDeniedError)
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "access_denied")
        assert denied.applied
        world.script.clear()
        await world.make_due()
    async with world.process() as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, expected)


@pytest.mark.parametrize(
    ("word", "required", "drift"),
    [
        ("default encryption", False, {"default_encryption": Encryption("AES256")}),
        ("default encryption", False, {"default_encryption": Encryption("aws:kms", KEY.arn + "-other")}),
        ("S3 Bucket Keys", False, {"bucket_key": True}),
        ("rekeyd:tenant", False, {"tags": {"team": "blue"}}),
        ("public access", False, {"public_access_blocked": False}),
        ("public access", True, {"public_access_blocked": None}),
    ],
)
async def test_drift_of_the_dedicated_bucket_holds_the_job(
    world: World, word: str, required: bool, drift: dict[str, Any]
) -> None:
    """Whatever it is told to be, the bucket is read back as another."""
    world.fill({"a": Data(b"a")})
    world.is_aws = required

    def reads_back_otherwise(found: BucketDescription | None) -> BucketDescription | None:
        return None if found is None else replace(found, **drift)

    world.script.always("describe", bucket=TARGET_BUCKET).answers(reads_back_otherwise)

    def mend() -> None:
        assert world.script.count("put", TARGET_BUCKET) == 0, "no object was written"
        world.script.clear()

    job = await held_then_mended(world, "drift", mend)
    assert word in str(job.error)


async def test_what_a_store_can_not_block_is_no_drift_where_that_is_not_required(world: World) -> None:
    world.script.always("describe", bucket=TARGET_BUCKET).answers(
        lambda found: found and replace(found, public_access_blocked=None)
    )
    expected = world.fill({"a": Data(b"a")})
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, expected)


async def test_a_default_key_that_is_not_at_work_holds_the_job(world: World) -> None:
    world.fill({"a": Data(b"a")})
    world.script.always("head", key=".rekeyd/canary").answers(
        lambda head: replace(head, encryption=Encryption("AES256"))
    )
    await held_then_mended(world, "drift", world.script.clear)


async def test_a_target_that_is_gone_after_copying_began_is_not_made_anew(world: World) -> None:
    """Its copies are gone with it, while the ledger calls them verified: a switch would lead to nothing."""
    objects = world.fill()
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2, times=None).fails(UnavailableError)
    async with world.process() as process:
        assert (await process.move()).held_reason == "store_unavailable"
        assert set(world.in_target()) == set(objects)
    world.script.clear()
    del world.target_shelf.buckets[TARGET_BUCKET]
    async with world.process() as process:
        await process.direct.resume_job("job-1", "an operator")
        job = await process.work()
        assert (job.state, job.held_reason) == ("held", "drift")
        record, _ = await process.direct.placement(TENANT)
        assert record is not None
        assert record.phase == "shared"
    assert TARGET_BUCKET not in world.target_shelf.buckets
    assert set(world.in_source()) == set(objects)


def _tagged(found: BucketDescription | None) -> BucketDescription | None:
    return None if found is None else replace(found, tags={"rekeyd:tenant": "somebody"})


def _versioned(found: BucketDescription | None) -> BucketDescription | None:
    return None if found is None else replace(found, versioning="enabled")


def _suspended(found: BucketDescription | None) -> BucketDescription | None:
    return None if found is None else replace(found, versioning="suspended")


def _locking(found: BucketDescription | None) -> BucketDescription | None:
    return None if found is None else replace(found, versioning="enabled", object_lock=True)


@pytest.mark.parametrize(
    ("bucket", "change", "word"),
    [
        (SOURCE.bucket, _suspended, "suspended"),
        (SOURCE.bucket, _locking, "Object Lock"),
        (SOURCE.bucket, lambda _: None, "no bucket"),
        (TARGET_BUCKET, _versioned, "versioning"),
        (TARGET_BUCKET, _suspended, "versioning"),
        (TARGET_BUCKET, _tagged, "somebody"),
    ],
)
async def test_what_can_not_be_done_fails_and_touches_nothing(
    world: World, bucket: str, change: Callable[[BucketDescription], BucketDescription | None], word: str
) -> None:
    objects = world.fill()
    world.target_shelf.make_bucket(TARGET_BUCKET)
    world.script.always("describe", bucket=bucket).answers(change)
    async with world.process() as process:
        job = await process.move()
        await world.assert_trail(process.direct)
    assert job.state == "failed"
    assert word in str(job.error)
    assert world.script.mutations() == []
    assert set(world.in_source()) == set(objects)


async def test_a_target_that_holds_foreign_objects_fails_untouched(world: World) -> None:
    world.fill()
    world.target_shelf.make_bucket(TARGET_BUCKET)
    world.put_into(world.target_shelf, TARGET_BUCKET, "foreign", Data(b"foreign"))
    async with world.process() as process:
        job = await process.move()
    assert job.state == "failed"
    assert world.script.mutations() == []
    assert [*world.target_shelf.buckets[TARGET_BUCKET].objects] == ["foreign"]


async def test_errors_that_nobody_foresaw_are_counted_and_then_hold_the_job(world: World) -> None:
    world.fill()
    refused = world.script.always("list_page", bucket=SOURCE.bucket).fails(StoreRefusedError, "Odd")
    await held_then_mended(world, "attempts_exhausted", world.script.clear, by_itself=False)
    assert refused.applied == world.timings.job_attempts_max


async def test_a_broken_invariant_stops_the_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill()

    def broken(_key: object) -> NoReturn:
        raise AssertionError("an invariant")

    monkeypatch.setattr(world.custody, "describe", broken)
    async with world.process() as process:
        await world.admit(process.direct)
        with pytest.raises(ExceptionGroup) as stopped:
            await process.worker.run()
        assert stopped.group_contains(AssertionError, match="an invariant")
        assert (await process.direct.job("job-1")).state == "running"
    monkeypatch.undo()
    await world.expire_leases()
    async with world.process() as process:
        assert (await process.work()).state == "completed"
