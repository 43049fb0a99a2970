"""A rotation that can't be as it is asked for: it says what to do, changes nothing, and leaves a record."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rekeyd.domain.certificate import certificate_key
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.key import KmsKey
from tests.jobs.test_rotate import ROTATE, assert_rotated, keys_in_use, moved, rotated, states_of
from tests.jobs.world import ANOTHER_KEY, FINAL, KEY, TENANT, Process, World

ELSEWHERE = KmsKey(
    kind="kms",
    arn="arn:aws:kms:eu-west-1:111122223333:key/elsewhere",
    alias="arn:aws:kms:eu-west-1:111122223333:alias/elsewhere",
)
Change = Callable[[World], object]


def set_to(field: str, value: str) -> Change:
    return lambda world: setattr(world.custody.keys[ANOTHER_KEY.arn], field, value)


FAULTS: dict[str, tuple[str, str, Change, Change]] = {
    "a signing key": (
        "key_wrong_usage",
        "a symmetric key for encryption is needed",
        set_to("usage", "SIGN_VERIFY"),
        set_to("usage", "ENCRYPT_DECRYPT"),
    ),
    "an asymmetric key": (
        "key_wrong_usage",
        "a symmetric key for encryption is needed",
        set_to("spec", "RSA_4096"),
        set_to("spec", "SYMMETRIC_DEFAULT"),
    ),
    "an alias that points elsewhere": (
        "key_alias_mismatch",
        f"{ANOTHER_KEY.alias} points at {KEY.arn}",
        lambda world: world.custody.aliases.update({ANOTHER_KEY.alias: KEY.arn}),
        lambda world: world.custody.add(ANOTHER_KEY),
    ),
    "an alias that isn't there": (
        "key_missing",
        f"there is no alias {ANOTHER_KEY.alias}",
        lambda world: world.custody.aliases.pop(ANOTHER_KEY.alias),
        lambda world: world.custody.add(ANOTHER_KEY),
    ),
    "a key that isn't there": (
        "key_missing",
        f"there is no key {ANOTHER_KEY.arn}",
        lambda world: world.custody.keys.pop(ANOTHER_KEY.arn),
        lambda world: world.custody.add(ANOTHER_KEY),
    ),
    "a disabled key": (
        "key_disabled",
        f"enable {ANOTHER_KEY.arn}",
        set_to("state", "Disabled"),
        set_to("state", "Enabled"),
    ),
    "a key about to be deleted": (
        "key_pending_deletion",
        f"cancel the deletion of {ANOTHER_KEY.arn}",
        set_to("state", "PendingDeletion"),
        set_to("state", "Enabled"),
    ),
    "a key that we may not see": (
        "key_access_denied",
        f"let rekeyd describe {ANOTHER_KEY.arn}",
        lambda world: world.custody.forbidden.add(ANOTHER_KEY.arn),
        lambda world: world.custody.forbidden.clear(),
    ),
}


async def assert_nothing_changed(world: World, process: Process, mutations: int) -> None:
    assert len(world.script.mutations()) == mutations
    assert keys_in_use(world) == {"ours": {KEY.arn}, "tenant's": {KEY.arn}}
    assert (await states_of(process))[KEY.arn] == "active"
    record, _ = await process.direct.placement(TENANT)
    assert record is not None
    assert (record.phase, record.key_ref, record.key_state) == ("dedicated", KEY.arn, "active")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_key_that_will_not_do_holds_the_rotation_before_anything_is_changed(
    world: World, fault: str
) -> None:
    reason, advice, harm, mend = FAULTS[fault]
    async with world.process() as process:
        objects = await moved(world, process)
        before = len(world.script.mutations())
        harm(world)

        job = await rotated(world, process)

        assert (job.state, job.held_reason) == ("held", reason), job.error
        assert advice in (job.error or "")
        await assert_nothing_changed(world, process, before)
        held = [each for each in await world.records(process.direct, "job.held") if each["job"] == ROTATE]
        assert [(each["outcome"], each["reason"]) for each in held] == [(reason, job.error)]

        mend(world)
        await world.make_due()
        await process.work(ROTATE, until=FINAL)
        await assert_rotated(world, process, objects)


async def test_a_key_of_another_region_holds_the_rotation(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        before = len(world.script.mutations())
        world.custody.add(ELSEWHERE)
        job = await rotated(world, process, key=ELSEWHERE)
        assert (job.state, job.held_reason) == ("held", "key_wrong_region")
        assert "the bucket is in us-east-1: key and alias must be, too" in (job.error or "")
        await assert_nothing_changed(world, process, before)
        await process.direct.cancel_job(ROTATE, "an operator")
        assert (await rotated(world, process, "rotate-2")).state == "completed"


async def test_the_active_key_by_another_alias_is_active_already_and_keeps_its_own(world: World) -> None:
    async with world.process() as process:
        await moved(world, process)
        before = len(world.script.mutations())
        slip = KmsKey(kind="kms", arn=KEY.arn, alias=ANOTHER_KEY.alias)
        job = await rotated(world, process, key=slip)
        assert (job.state, job.phase) == ("completed", "done")
        (written,) = world.script.mutations()[before:]
        assert written.keys == (certificate_key(job.id),), "its certificate, and nothing else"
        await assert_nothing_changed(world, process, before + 1)
        (result,) = await world.records(process.direct, "rotation.result")
        assert result["did"] == "active already"
        assert [key.alias for key in await process.direct.tenant_keys(TENANT)] == [KEY.alias]


@pytest.mark.parametrize("state", ["revoked", "destroyed"])
async def test_a_key_that_the_tenant_withdrew_is_refused_on_record(world: World, state: str) -> None:
    async with world.process() as process:
        await moved(world, process)
        assert (await rotated(world, process)).state == "completed"
        await world._sql(f"UPDATE keys SET state = '{state}' WHERE ref = '{KEY.arn}'")  # noqa: S608
        with pytest.raises(RefusedError, match=f"key: is {state}: nothing can be written under it"):
            await world.rotate(process.direct, "rotate-2", key=KEY)
        (refused,) = await world.records(process.direct, "job.refused")
        assert (refused["job"], refused["tenant"]) == ("rotate-2", TENANT)
        assert keys_in_use(world)["tenant's"] == {ANOTHER_KEY.arn}
