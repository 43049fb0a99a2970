"""Rotating brings all that is there under another key, loses nothing, stops nobody, and puts the former key away."""

from __future__ import annotations

from rekeyd.domain.objects import OWN_PREFIX, Encryption
from rekeyd.domain.job import Job
from tests.jobs.world import ANOTHER_KEY, KEY, TARGET_BUCKET, TENANT, Process, World

ROTATE = "rotate-1"


async def rotated(world: World, process: Process, job_id: str = ROTATE, **options: object) -> Job:
    await world.rotate(process.direct, job_id, **options)
    return await process.work(job_id)


def keys_in_use(world: World) -> dict[str, set[str]]:
    """Under which keys current objects lie, by whose they are."""
    found: dict[str, set[str]] = {"ours": set(), "tenant's": set()}
    for key, stored in world.target_shelf.buckets[TARGET_BUCKET].objects.items():
        found["ours" if key.startswith(OWN_PREFIX) else "tenant's"].add(stored.encryption.key)
    return found


async def states_of(process: Process) -> dict[str, str]:
    return {key.ref: key.state for key in await process.direct.tenant_keys(TENANT)}


async def test_everything_lies_under_the_new_key_and_the_former_one_is_archived(world: World) -> None:
    objects = world.fill()
    async with world.process() as process:
        await process.move()
        former, _ = await process.direct.placement(TENANT)
        world.use_another_key()

        job = await rotated(world, process)

        assert (job.state, job.phase, job.error) == ("completed", "done", None), job
        assert sorted(world.in_target()) == sorted(objects)
        for name, data in objects.items():
            world.assert_equal(name, data)
        assert keys_in_use(world) == {"ours": {ANOTHER_KEY.arn}, "tenant's": {ANOTHER_KEY.arn}}
        assert await states_of(process) == {KEY.arn: "archived", ANOTHER_KEY.arn: "active"}
        record, _ = await process.direct.placement(TENANT)
        assert former is not None and record is not None
        assert (record.phase, record.key_ref) == ("dedicated", ANOTHER_KEY.arn)
        assert record.epoch == former.epoch + 1
        bucket = world.target_shelf.buckets[TARGET_BUCKET]
        assert bucket.default_encryption == Encryption("aws:kms", ANOTHER_KEY.arn)
        assert f"'{KEY.arn}'" not in str(bucket.policy)
        assert world.custody.keys[KEY.arn].state == "Enabled"
        assert job.result is not None
        assert job.result["under_former_keys"] == {
            KEY.arn: {"current": 0, "lasting": 0, "noncurrent": 0, "bytes": 0, "shown": []}
        }
        await world.assert_trail(process.direct)
