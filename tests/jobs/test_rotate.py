"""Rotating brings all that is there under another key, loses nothing, stops nobody, and puts the former key away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.domain.certificate import certificate_key
from rekeyd.domain.errors import AccessDeniedError, ConflictError, RefusedError
from rekeyd.domain.job import Job, read_job_message
from rekeyd.domain.key import KmsKey
from rekeyd.domain.objects import OWN_PREFIX, Attributes, Encryption, Location
from rekeyd.jobs.canaries import key_canary
from rekeyd.stores.content import BytesContent
from rekeyd.stores.memory import MemoryStore
from rekeyd.stores.port import IfAbsent
from tests.doubles.claim import Claim
from tests.doubles.faulty import Call
from tests.jobs.world import (
    ANOTHER_KEY,
    KEY,
    SETTLED,
    TARGET_BUCKET,
    TENANT,
    Data,
    Process,
    World,
    eventually,
)

ROTATE = "rotate-1"
EMPTY = {"current": 0, "lasting": 0, "noncurrent": 0, "bucket_key": 0, "bytes": 0, "shown": []}
THIRD_KEY = KmsKey(
    kind="kms",
    arn="arn:aws:kms:us-east-1:111122223333:key/third",
    alias="arn:aws:kms:us-east-1:111122223333:alias/third",
)


async def rotated(
    world: World,
    process: Process,
    job_id: str = ROTATE,
    *,
    key: KmsKey | None = ANOTHER_KEY,
    **options: object,
) -> Job:
    await world.rotate(process.direct, job_id, key=key, **options)
    return await process.work(job_id)


async def moved(world: World, process: Process, objects: dict[str, Data] | None = None) -> dict[str, Data]:
    """A tenant that is dedicated under KEY, and will rotate to ANOTHER_KEY."""
    filled = world.fill(objects)
    await process.move()
    world.use_another_key()
    return filled


def keys_in_use(world: World) -> dict[str, set[str]]:
    """Under which keys current objects lie, by whose they are."""
    found: dict[str, set[str]] = {"ours": set(), "tenant's": set()}
    for key, stored in world.target_shelf.buckets[TARGET_BUCKET].objects.items():
        found["ours" if key.startswith(OWN_PREFIX) else "tenant's"].add(stored.encryption.key)
    return found


async def states_of(process: Process) -> dict[str, str]:
    return {key.ref: key.state for key in await process.direct.tenant_keys(TENANT)}


def overwrite(world: World, name: str, data: Data) -> None:
    """A writer puts an object into the dedicated bucket, naming no key."""
    default = world.target_shelf.buckets[TARGET_BUCKET].default_encryption
    world.put_into(world.target_shelf, TARGET_BUCKET, name, data, default)


def policy_names(world: World, key: KmsKey) -> bool:
    return f"'{key.arn}'" in str(world.target_shelf.buckets[TARGET_BUCKET].policy)


async def assert_rotated(
    world: World, process: Process, expected: dict[str, Data], job_id: str = ROTATE
) -> None:
    job = await process.direct.job(job_id)
    assert (job.state, job.phase) == ("completed", "done"), (job.state, job.held_reason, job.error)
    assert sorted(world.in_target()) == sorted(expected)
    for name, data in expected.items():
        world.assert_equal(name, data)
    assert keys_in_use(world)["ours"] == {world.key.arn}
    assert await states_of(process) == {KEY.arn: "archived", ANOTHER_KEY.arn: "active"}
    assert not policy_names(world, KEY)
    assert world.custody.keys[KEY.arn].state == "Enabled"
    canary = world.target_shelf.buckets[TARGET_BUCKET].objects.get(key_canary(KEY.arn))
    assert canary is None, "a key's own canary is kept until it is archived"
    # A dead daemon's upload can't be told from a writer's: it expires. But it was begun under the new key.
    left = [begun.encryption for begun in world.target_shelf.uploads.values()]
    assert left == [Encryption("aws:kms", world.key.arn)] * len(left)
    assert not [call for call in world.script.mutations() if call.operation == "delete" and _tenants(call)]
    await world.assert_trail(process.direct)


def _tenants(call: Call) -> bool:
    return call.bucket == TARGET_BUCKET and any(not v.key.startswith(OWN_PREFIX) for v in call.versions)


async def test_everything_lies_under_the_new_key_and_the_former_one_is_archived(world: World) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
        former, _ = await process.direct.placement(TENANT)

        job = await rotated(world, process)

        assert job.error is None
        await assert_rotated(world, process, objects)
        record, _ = await process.direct.placement(TENANT)
        assert former is not None
        assert record is not None
        assert (record.phase, record.key_ref) == ("dedicated", ANOTHER_KEY.arn)
        assert record.epoch == former.epoch + 1
        bucket = world.target_shelf.buckets[TARGET_BUCKET]
        assert bucket.default_encryption == Encryption("aws:kms", ANOTHER_KEY.arn)
        assert job.result is not None
        assert job.result["under_former_keys"] == {KEY.arn: EMPTY}
        # Nothing needs the former key any more.
        world.target_shelf.disabled_keys.add(KEY.arn)
        await world.verify_again(process.direct, "verify-1")
        assert (await process.work("verify-1")).error is None


async def test_a_writers_newer_object_survives_whenever_it_comes(world: World) -> None:
    newer = Data.of(b"newer", by="a writer")
    async with world.process() as process:
        objects = await moved(world, process)
        world.script.on("copy", bucket=TARGET_BUCKET, key="a/small").first(
            lambda: overwrite(world, "a/small", newer)
        )
        world.script.on("complete_upload", bucket=TARGET_BUCKET, key="c/6 MiB").first(
            lambda: overwrite(world, "c/6 MiB", newer)
        )
        await rotated(world, process)
        await assert_rotated(world, process, objects | {"a/small": newer, "c/6 MiB": newer})


async def test_a_writer_may_add_and_delete_amid_a_rotation(world: World) -> None:
    async with world.process() as process:
        objects = await moved(world, process)

        def write() -> None:
            overwrite(world, "new", Data(b"new"))
            del world.target_shelf.buckets[TARGET_BUCKET].objects["z"]

        world.script.on("copy", bucket=TARGET_BUCKET, key="a/small").first(write)
        await rotated(world, process)
        del objects["z"]
        await assert_rotated(world, process, objects | {"new": Data(b"new")})


async def test_what_is_written_under_the_former_key_after_the_listing_is_found(world: World) -> None:
    """Nobody should by then; a look at every version tells, and it is brought under the new key, too."""
    late = Data(b"late")
    former = Encryption("aws:kms", KEY.arn)
    async with world.process() as process:
        objects = await moved(world, process)
        world.script.on("copy", bucket=TARGET_BUCKET, key="z").first(
            lambda: world.put_into(world.target_shelf, TARGET_BUCKET, "late", late, former)
        )
        await rotated(world, process)
        await assert_rotated(world, process, objects | {"late": late})


async def test_the_former_key_stays_allowed_as_long_as_an_upload_of_before_is_unfinished(
    world: World,
) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
    store, claim = MemoryStore(world.target_shelf, name="s4"), Claim()
    upload = await store.begin_upload(TARGET_BUCKET, "uploaded", Attributes(), under=None, claim=claim)
    world.timings = replace(world.timings, held_recheck_seconds=0.05)
    async with world.process() as process:
        await world.rotate(process.direct)

        async def waits() -> bool:
            job = await process.direct.job(ROTATE)
            return job.phase == "reencrypt" and keys_in_use(world)["tenant's"] == {ANOTHER_KEY.arn}

        async with process.working() as task:
            await eventually(waits)
            assert policy_names(world, KEY)
            part = await store.put_part(upload, 1, BytesContent(b"uploaded"), claim=claim)
            await store.complete_upload(upload, [part], condition=IfAbsent(), crc64nvme=None, claim=claim)
            await process.reached(SETTLED, ROTATE, task=task)
        await assert_rotated(world, process, objects | {"uploaded": Data(b"uploaded")})


async def test_new_redirects_and_says_what_stays_under_the_former_key(world: World) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
        job = await rotated(world, process, reencrypt="new")
        assert job.state == "completed"
        assert job.result is not None
        under = job.result["under_former_keys"]
        assert isinstance(under, dict)
        assert under[KEY.arn]["current"] >= len(objects)
        assert KEY.arn in (job.error or "")
        assert await states_of(process) == {KEY.arn: "active", ANOTHER_KEY.arn: "active"}
        overwrite(world, "z", Data(b"another"))
        assert keys_in_use(world)["tenant's"] == {KEY.arn, ANOTHER_KEY.arn}

        # Asked for all of it later, the rest follows.
        await rotated(world, process, "rotate-2")
        await assert_rotated(world, process, objects | {"z": Data(b"another")}, "rotate-2")


async def test_rotating_to_the_key_already_active_completes_at_once(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        before = len(world.script.mutations())
        job = await rotated(world, process, key=KEY)
        assert (job.state, job.phase) == ("completed", "done")
        assert "active already" in (job.error or "")
        (certificate,) = world.script.mutations()[before:]
        assert (certificate.operation, certificate.keys) == ("put", (certificate_key(ROTATE),))


async def test_without_a_key_the_providers_own_rotation_is_recorded_and_nothing_moves(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        before = len(world.script.mutations())
        job = await rotated(world, process, key=None)
        assert job.result == {"key": KEY.arn, "did": "rotated by its provider"}
        (record,) = await world.records(process.direct, "rotation.result")
        assert record["did"] == "rotated by its provider"
        (certificate,) = world.script.mutations()[before:]
        assert (certificate.operation, certificate.keys) == ("put", (certificate_key(ROTATE),))


async def test_a_tenant_that_is_not_dedicated_is_not_rotated(world: World) -> None:
    async with world.process() as process:
        with pytest.raises(RefusedError, match="tenant: has no key here"):
            await world.rotate(process.direct)
        await world.admit(process.direct)
        with pytest.raises(RefusedError, match="tenant: is shared"):
            await world.rotate(process.direct)
        assert len(await world.records(process.direct, "job.refused")) == 2


async def test_another_tenants_key_is_refused(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        other = {"tenant": "other", "source": "s3://shared/tenants/other/", "target": "s4://byok-other/"}
        received = read_job_message(world.message("other-1", other | {"key": ANOTHER_KEY.model_dump()}))
        locations = [Location.parse(other[name]) for name in ("source", "target")]
        await process.direct.admit(received, locations[0], locations[1], 0, "upstream")
        with pytest.raises(RefusedError, match="key: belongs to another tenant"):
            await world.rotate(process.direct)
        (refused,) = await world.records(process.direct, "job.refused")
        assert (refused["job"], refused["reason"]) == (ROTATE, "key: belongs to another tenant")
        assert keys_in_use(world)["tenant's"] == {KEY.arn}


async def test_a_rotation_waits_for_a_migration_that_keeps_its_source(world: World) -> None:
    async with world.process() as process:
        objects = world.fill()
        await world.admit(process.direct, grace_seconds=3600)

        async def in_grace() -> bool:
            return (await process.direct.job("job-1")).phase == "grace"

        async with process.working() as task:
            await eventually(in_grace)
            world.custody.add(ANOTHER_KEY)
            await world.rotate(process.direct)

            async def waits() -> bool:
                result = (await process.direct.job(ROTATE)).result
                return result is not None and result.get("waits_for") == "job-1"

            await eventually(waits)
            assert keys_in_use(world)["tenant's"] == {KEY.arn}
            await world.rewind(3600)
            await process.reached(("completed",), task=task)
            world.use_another_key()
            await world.make_due()
            await process.reached(SETTLED, ROTATE, task=task)
        await assert_rotated(world, process, objects)
        assert world.in_source() == {}


async def test_an_older_rotation_does_not_undo_a_later_one(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        world.custody.keys[ANOTHER_KEY.arn].state = "Disabled"
        held = await rotated(world, process)
        assert (held.state, held.held_reason) == ("held", "key_disabled")
        world.custody.add(THIRD_KEY)
        world.key = THIRD_KEY
        assert (await rotated(world, process, "rotate-2", key=THIRD_KEY)).state == "completed"

        world.custody.keys[ANOTHER_KEY.arn].state = "Enabled"
        await process.direct.resume_job(ROTATE, "an operator")
        job = await process.work(ROTATE, until=("completed", "failed"))
        assert job.state == "failed"
        assert "rotate-2" in (job.error or "")
        assert keys_in_use(world)["tenant's"] == {THIRD_KEY.arn}


async def test_amid_a_rotation_a_revocation_withdraws_both_keys_and_it_goes_on_after(world: World) -> None:
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)
    async with world.process() as process:
        objects = await moved(world, process)

        async def revoke(_call: object) -> None:
            await world.revoke(process.direct)

        world.script.on("copy", bucket=TARGET_BUCKET, key="b dressed+%2F").first_await(revoke)
        await world.rotate(process.direct)
        revoked = await process.work("revoke-1")
        assert (revoked.state, revoked.error) == ("completed", None)
        assert revoked.result is not None
        assert revoked.result["keys"] == {KEY.arn: "disabled", ANOTHER_KEY.arn: "disabled"}
        assert await states_of(process) == {KEY.arn: "revoked", ANOTHER_KEY.arn: "revoked"}
        assert {world.custody.keys[key.arn].state for key in (KEY, ANOTHER_KEY)} == {"Disabled"}
        job = await process.direct.job(ROTATE)
        assert (job.state, job.held_reason) == ("held", "revoked")
        with pytest.raises(ConflictError, match="reinstatement"):
            await process.direct.resume_job(ROTATE, "an operator")

        await world.reinstate(process.direct)
        assert (await process.work("reinstate-1")).state == "completed"
        await process.work(ROTATE)
        await assert_rotated(world, process, objects)


async def test_a_key_that_can_still_be_read_under_keeps_a_revocation_from_being_effective(
    world: World,
) -> None:
    """Each key has its own canary: that the other one is off proves nothing."""
    world.timings = replace(world.timings, held_recheck_seconds=0.05, key_check_seconds=0.001)
    async with world.process() as process:
        await moved(world, process)
        await rotated(world, process, reencrypt="new")
        world.custody.switched = lambda _arn, _state: None
        world.target_shelf.disabled_keys.add(ANOTHER_KEY.arn)
        world.script.always("set_policy", bucket=TARGET_BUCKET).fails(AccessDeniedError)
        await world.revoke(process.direct)
        held = await process.work("revoke-1", until=("held",))
        assert held.held_reason == "still_readable"
        world.target_shelf.disabled_keys.add(KEY.arn)

        async def only_the_bucket_is_left() -> bool:
            return (await process.direct.job("revoke-1")).held_reason == "custody_unavailable"

        async with process.working():
            await eventually(only_the_bucket_is_left)
        assert world.metrics.revocations == []
