"""What a tenant does to its key at the provider is followed by itself: once, and only where the data can follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from structlog.testing import capture_logs

from rekeyd.domain.errors import KeyForbiddenError
from rekeyd.domain.job import Job, read_job_message
from rekeyd.domain.key import KeyDescription, KmsKey
from rekeyd.domain.objects import Location
from rekeyd.jobs.key_watch import KeyWatch
from tests.jobs.test_key_watch import in_grace, look
from tests.jobs.test_rotate import ROTATE, THIRD_KEY, assert_rotated, keys_in_use, moved, states_of
from tests.jobs.world import ANOTHER_KEY, KEY, TENANT, Process, World, eventually


async def rotations(process: Process) -> list[Job]:
    """All of them, the oldest first."""
    return [job for job in reversed(await process.direct.jobs()) if job.kind == "rotate"]


async def the_rotation(process: Process) -> Job:
    (job,) = await rotations(process)
    return job


def point(world: World, successor: KmsKey, alias: str = KEY.alias) -> None:
    """The tenant points its alias at another key."""
    world.custody.add(successor)
    world.custody.aliases[alias] = successor.arn
    world.key = successor


async def test_the_data_follow_the_alias_to_another_key(world: World) -> None:
    async with world.process() as process:
        objects = world.fill()
        await process.move()
        point(world, ANOTHER_KEY)

        assert await look(process) == ["rotation_enqueued"]
        job = await the_rotation(process)
        assert (job.admitted_by, job.key) == (
            "rekeyd",
            KmsKey(kind="kms", arn=ANOTHER_KEY.arn, alias=KEY.alias),
        )
        assert await look(process) == [], "they are on their way"
        assert await states_of(process) == {KEY.arn: "active", ANOTHER_KEY.arn: "pending"}

        await process.work(job.id)
        await assert_rotated(world, process, objects, job.id)
        assert await look(process) == []
        assert [each.id for each in await rotations(process)] == [job.id]


async def test_an_alias_that_goes_there_and_back_and_there_again_is_followed_each_time(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        for successor in (ANOTHER_KEY, KEY, ANOTHER_KEY):
            point(world, successor)
            await look(process)
            job = await process.work((await rotations(process))[-1].id)
            assert job.state == "completed"
            assert keys_in_use(world) == {"ours": {successor.arn}, "tenant's": {successor.arn}}
        assert len(await rotations(process)) == 3


ELSEWHERE = KmsKey(
    kind="kms",
    arn="arn:aws:kms:eu-west-1:111122223333:key/elsewhere",
    alias="arn:aws:kms:eu-west-1:111122223333:alias/elsewhere",
)
FOREIGN = KmsKey(
    kind="kms",
    arn="arn:aws:kms:us-east-1:999922223333:key/foreign",
    alias="arn:aws:kms:us-east-1:999922223333:alias/foreign",
)
Harm = Callable[[World], None]


def _set(field: str, value: str) -> Harm:
    return lambda world: setattr(world.custody.keys[ANOTHER_KEY.arn], field, value)


def forbid_by_name(world: World) -> None:
    """The key's policy lets it be described by its alias alone (condition key kms:RequestAlias)."""
    describe = world.custody.describe

    async def by_alias(key: KmsKey) -> KeyDescription | None:
        if key.arn == ANOTHER_KEY.arn:
            raise KeyForbiddenError(f"{key.arn}: forbidden")
        return await describe(key)

    vars(world.custody)["describe"] = by_alias


UNFIT: dict[str, tuple[KmsKey, Harm, str]] = {
    "disabled": (ANOTHER_KEY, _set("state", "Disabled"), f"enable {ANOTHER_KEY.arn}, or point it back"),
    "about to be deleted": (ANOTHER_KEY, _set("state", "PendingDeletion"), "cancel the deletion"),
    "without material": (ANOTHER_KEY, _set("state", "PendingImport"), "PendingImport"),
    "for signing": (ANOTHER_KEY, _set("usage", "SIGN_VERIFY"), "a symmetric key for encryption is needed"),
    "not to be described by its own name": (
        ANOTHER_KEY,
        forbid_by_name,
        "let rekeyd describe that",
    ),
    "in another region": (ELSEWHERE, lambda _: None, "in another account or region"),
    "in another account": (FOREIGN, lambda _: None, "in another account or region"),
}


@pytest.mark.parametrize("fault", UNFIT)
async def test_where_the_data_cannot_follow_the_key_counts_as_unavailable_and_nothing_is_asked_for(
    world: World, fault: str
) -> None:
    successor, harm, advice = UNFIT[fault]
    async with world.process() as process:
        world.fill()
        await process.move()
        before = len(world.script.mutations())
        point(world, successor)
        harm(world)

        assert await look(process) == ["key_unavailable"]
        assert await look(process) == [], "it is no news any more"

        assert await rotations(process) == []
        (record,) = [each for each in await world.records(process.direct, "key.state") if each["job"] is None]
        assert record["reason"].startswith(f"key_alias_mismatch: {KEY.alias} points at {successor.arn}")
        assert advice in record["reason"]
        assert await world.records(process.direct, "job.refused") == []
        assert len(world.script.mutations()) == before
        assert keys_in_use(world)["tenant's"] == {KEY.arn}


async def test_an_alias_that_leads_to_a_key_that_we_may_not_see_says_so(world: World) -> None:
    """Then nobody tells where it leads: describing an alias needs the permission for its key."""
    async with world.process() as process:
        world.fill()
        await process.move()
        point(world, ANOTHER_KEY)
        world.custody.forbidden.add(ANOTHER_KEY.arn)
        assert await look(process) == ["key_unavailable"]
        assert await rotations(process) == []
        (record,) = [each for each in await world.records(process.direct, "key.state") if each["job"] is None]
        assert record["reason"].startswith("key_access_denied")


async def test_as_soon_as_the_key_there_can_be_used_the_data_follow(world: World) -> None:
    async with world.process() as process:
        objects = world.fill()
        await process.move()
        point(world, ANOTHER_KEY)
        world.custody.keys[ANOTHER_KEY.arn].state = "Disabled"
        assert await look(process) == ["key_unavailable"]
        world.custody.keys[ANOTHER_KEY.arn].state = "Enabled"
        assert await look(process) == ["rotation_enqueued", "key_available"]
        job = await process.work((await the_rotation(process)).id)
        await assert_rotated(world, process, objects, job.id)


async def test_an_alias_that_is_pointed_back_in_time_leaves_everything_as_it_was(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        point(world, ANOTHER_KEY)
        world.custody.keys[ANOTHER_KEY.arn].state = "Disabled"
        await look(process)
        point(world, KEY)
        assert await look(process) == ["key_available"]
        assert await rotations(process) == []


async def test_another_tenants_key_is_not_followed_and_not_told_whose_it_is(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        other = {"tenant": "other", "source": "s3://shared/tenants/other/", "target": "s4://byok-other/"}
        received = read_job_message(world.message("other-1", other | {"key": ANOTHER_KEY.model_dump()}))
        locations = [Location.parse(other[name]) for name in ("source", "target")]
        await process.direct.admit(received, locations[0], locations[1], 0, "upstream")
        point(world, ANOTHER_KEY)

        assert await look(process) == ["key_unavailable"]
        assert await rotations(process) == []
        (record,) = [each for each in await world.records(process.direct, "key.state") if each["job"] is None]
        assert "belongs to another tenant" in record["reason"]
        assert "other-1" not in record["reason"]


@pytest.mark.parametrize("state", ["revoked", "destroyed"])
async def test_a_key_of_its_own_that_the_tenant_withdrew_is_not_followed(world: World, state: str) -> None:
    async with world.process() as process:
        await moved(world, process)
        await world.rotate(process.direct, reencrypt="new")
        await process.work(ROTATE)
        await world._sql(f"UPDATE keys SET state = '{state}' WHERE ref = '{KEY.arn}'")  # noqa: S608
        point(world, KEY, ANOTHER_KEY.alias)
        assert await look(process) == ["key_unavailable"]
        assert [job.id for job in await rotations(process)] == [ROTATE]


async def test_the_alias_of_a_key_that_was_brought_leads_nothing(world: World) -> None:
    """It is ours: it moves when we rotate, and whoever else moves it has no say."""
    async with world.process() as process:
        world.fill()
        await process.move()
        await world._sql("UPDATE keys SET kind = 'wrapped'")
        point(world, ANOTHER_KEY)
        assert await look(process) == []
        assert await rotations(process) == []


async def test_a_migration_goes_on_after_its_switch_and_the_rotation_after_it(world: World) -> None:
    world.timings = replace(world.timings, held_recheck_seconds=0.05)
    async with world.process() as process:
        objects = world.fill()
        await world.admit(process.direct, grace_seconds=3600)
        async with process.working() as task:
            await eventually(partial(in_grace, process))
            world.custody.add(ANOTHER_KEY)
            world.custody.aliases[KEY.alias] = ANOTHER_KEY.arn
            assert "rotation_enqueued" in await look(process)
            await world.rewind(3600)
            migrated = await process.reached(("completed", "held", "failed"), task=task)
            assert migrated.state == "completed", migrated
            world.key = ANOTHER_KEY
            job = await the_rotation(process)
            await process.reached(("completed", "held", "failed"), job.id, task=task)
        await assert_rotated(world, process, objects, job.id)
        assert world.in_source() == {}


async def test_another_rotation_under_way_is_waited_for(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        await world.rotate(process.direct)
        point(world, THIRD_KEY)
        assert await look(process) == []
        assert [job.id for job in await rotations(process)] == [ROTATE]


async def test_a_rotation_to_the_very_key_that_somebody_asked_for_is_enough(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        world.custody.keys[ANOTHER_KEY.arn].state = "Disabled"
        await world.rotate(process.direct)
        assert (await process.work(ROTATE)).state == "held"
        world.custody.keys[ANOTHER_KEY.arn].state = "Enabled"
        point(world, ANOTHER_KEY)
        assert await look(process) == []
        assert [job.id for job in await rotations(process)] == [ROTATE]


async def test_a_rotation_that_is_held_gives_way_to_where_the_alias_leads(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        world.custody.keys[ANOTHER_KEY.arn].state = "Disabled"
        await world.rotate(process.direct)
        assert (await process.work(ROTATE)).state == "held"
        point(world, THIRD_KEY)
        assert await look(process) == ["rotation_enqueued"]
        job = await process.work((await rotations(process))[-1].id)
        assert (job.state, job.key.arn) == ("completed", THIRD_KEY.arn)
        assert keys_in_use(world)["tenant's"] == {THIRD_KEY.arn}


async def looks(process: Process, times: int) -> list[str]:
    """What one daemon's watch says in so many looks."""
    watch = KeyWatch(process.tools, process.name)
    with capture_logs() as logged:
        for _ in range(times):
            await watch.look()
    return [line["event"] for line in logged]


async def test_a_rotation_that_a_person_cancelled_stays_so_and_holds_nothing(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        point(world, ANOTHER_KEY)
        await look(process)
        await process.direct.cancel_job((await the_rotation(process)).id, "an operator")

        assert await looks(process, 3) == ["rotation_is_over"]

        assert (await the_rotation(process)).state == "cancelled"
        assert (await states_of(process))[KEY.arn] == "active"
        await world.verify_again(process.direct, "verify-1")
        world.key = KEY
        assert (await process.work("verify-1")).state == "completed"


async def test_a_rotation_that_is_refused_is_asked_for_once(world: World) -> None:
    """Somebody else has the very id: nothing that is repeated makes that otherwise."""
    async with world.process() as process:
        world.fill()
        await process.move()
        point(world, ANOTHER_KEY)
        await look(process)
        job_id = (await the_rotation(process)).id
        body = json.dumps({"schema": "rekeyd.job/1", "id": job_id, "kind": "verify", "tenant": TENANT})
    async with world.process() as process:
        await world._sql(f"DELETE FROM jobs WHERE id = '{job_id}'")  # noqa: S608
        await process.direct.admit_tenant_job(read_job_message(body.encode()), "upstream")

        assert await looks(process, 3) == ["rotation_refused"]

        (refused,) = await world.records(process.direct, "job.refused")
        assert (refused["actor"], refused["job"]) == ("rekeyd", job_id)
        assert (await states_of(process))[KEY.arn] == "active"


async def test_a_revoked_tenants_alias_leads_nowhere(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        await world.revoke(process.direct)
        await process.work("revoke-1")
        point(world, ANOTHER_KEY)
        world.custody.rotate(KEY.arn)
        assert await look(process) == []
        assert await rotations(process) == []
