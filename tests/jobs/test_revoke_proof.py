"""A revocation is effective where it was proven, and nowhere else: by key service, policy and canaries together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rekeyd.custody.memory import MemoryCustody
from rekeyd.domain.bucket_policy import Policy, refusal, refuses_everybody, with_refusal
from rekeyd.domain.custody import Errand, SwitchedKey
from rekeyd.domain.errors import AccessDeniedError, UnavailableError
from rekeyd.domain.job import Job
from rekeyd.domain.key import KmsKey
from rekeyd.jobs.provision import CANARY_KEY
from tests.jobs.test_revoke import (
    REINSTATE,
    REVOKE,
    assert_bucket_closed,
    assert_closed,
    ended,
    placement_of,
    states_of,
)
from tests.jobs.world import ANOTHER_KEY, KEY, TARGET_BUCKET, Data, Process, World, eventually

REFUSAL = refusal(TARGET_BUCKET, "aws")


@pytest.fixture(autouse=True)
def _short_leases(world: World) -> None:
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)


async def revoked(world: World, process: Process, **options: object) -> Job:
    await world.revoke(process.direct, **options)  # type: ignore[arg-type] # of the message
    return await ended(process, REVOKE)


async def assert_no_effect(world: World, process: Process) -> None:
    assert world.metrics.revocations == []
    assert await world.records(process.direct, "revocation.effective") == []
    assert "effective_seconds" not in ((await process.direct.job(REVOKE)).result or {})


# --- the policy ---


def none_at_all(_policy: Policy) -> Policy:
    return {}


def weakened(policy: Policy) -> Policy:
    return with_refusal(policy, {**REFUSAL, "Action": "s3:GetObject"})


def allowing(policy: Policy) -> Policy:
    return with_refusal(policy, {**REFUSAL, "Effect": "Allow"})


def of_one_prefix(policy: Policy) -> Policy:
    return with_refusal(policy, {**REFUSAL, "Resource": f"arn:aws:s3:::{TARGET_BUCKET}/.rekeyd/*"})


@pytest.mark.parametrize("left", [none_at_all, weakened, allowing, of_one_prefix])
async def test_a_policy_that_somebody_deleted_or_weakened_is_written_anew(world: World, left: Any) -> None:  # noqa: ANN401
    objects = world.fill()
    async with world.process() as process:
        await process.move()
        bucket = world.target_shelf.buckets[TARGET_BUCKET]
        before = bucket.policy
        bucket.policy = left(bucket.policy)
        done = await revoked(world, process)
        assert done.state == "completed"
        assert done.result is not None
        assert done.result["buckets"] == {TARGET_BUCKET: "refuses everybody"}
        assert_closed(world)

        await world.reinstate(process.direct)
        assert (await ended(process, REINSTATE)).state == "completed"
        assert bucket.policy == before, "what must be there is there again"
        await world.assert_moved(process.direct, objects)


async def test_also_where_the_tag_is_gone_with_it_the_ledger_knows_that_the_bucket_is_ours(
    world: World,
) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        world.target_shelf.buckets[TARGET_BUCKET].policy = {}
        world.target_shelf.buckets[TARGET_BUCKET].tags = {}
        assert (await revoked(world, process)).state == "completed"
        assert_closed(world)


@pytest.mark.parametrize("how", ["holds their objects", "refuses us"])
async def test_a_bucket_that_never_was_ours_is_left_alone(world: World, how: str) -> None:
    world.fill()
    world.target_shelf.make_bucket(TARGET_BUCKET)
    world.put_into(world.target_shelf, TARGET_BUCKET, "theirs", Data(b"theirs"))
    if how == "refuses us":
        world.script.always("describe", bucket=TARGET_BUCKET).fails(AccessDeniedError)
    async with world.process() as process:
        await process.move()
        held = await revoked(world, process)
        assert held.held_reason == "readable_elsewhere"
        assert held.result is not None
        assert held.result["buckets"] == {TARGET_BUCKET: "was never provisioned"}
        assert world.target_shelf.buckets[TARGET_BUCKET].policy == {}
        assert len(world.metrics.revocations) == 1


async def test_a_bucket_in_another_partition_refuses_by_the_name_that_it_has_there(world: World) -> None:
    world.fill({"a": Data(b"a")})
    world.region = "cn-north-1"
    cn = "arn:aws-cn:kms:cn-north-1:111122223333"
    world.key = KmsKey(kind="kms", arn=f"{cn}:key/acme", alias=f"{cn}:alias/acme")
    world.custody.add(world.key)
    async with world.process() as process:
        assert (await process.move()).state == "completed"
        assert (await revoked(world, process)).state == "completed"
        policy = world.target_shelf.buckets[TARGET_BUCKET].policy
        assert refuses_everybody(policy, refusal(TARGET_BUCKET, "aws-cn"))
        assert f"arn:aws-cn:s3:::{TARGET_BUCKET}/*" in str(policy)


async def test_a_refusal_that_is_not_kept_proves_nothing(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        before = await world.target_shelf_rules()
        world.script.always("describe_rules", bucket=TARGET_BUCKET).answers(lambda _: before)
        held = await revoked(world, process)
        assert (held.state, held.held_reason) == ("held", "still_readable")
        assert "does not refuse everybody" in (held.error or "")
        await assert_no_effect(world, process)


# --- the canaries ---


@pytest.mark.parametrize("policies", ["fail", "don't exist"])
async def test_a_403_that_is_ours_alone_is_no_proof(world: World, policies: str) -> None:
    """A role that lost its rights is refused, too, and everybody else goes on reading."""
    world.fill()
    async with world.process() as process:
        await process.move()
        if policies == "fail":
            world.script.always("set_policy").fails(UnavailableError)
        else:
            rules = await world.target_shelf_rules()
            world.script.always("describe_rules").answers(lambda _: replace(rules, policy=None))
        for operation in ("head", "read"):
            world.script.always(operation, bucket=TARGET_BUCKET, key=CANARY_KEY).fails(AccessDeniedError)
        held = await revoked(world, process)
        assert (held.state, held.held_reason) == ("held", "still_readable")
        assert f"{TARGET_BUCKET} is refused" in (held.error or "")
        await assert_no_effect(world, process)


@pytest.mark.parametrize("switched_off_by", ["us", "its owner", "nobody"])
async def test_without_policies_the_key_has_to_be_off_by_its_services_own_word(
    world: World, switched_off_by: str
) -> None:
    """The store can't use the key; whether that is for all, or a matter of our rights, only the key service knows."""
    world.fill()
    async with world.process() as process:
        await process.move()
        rules = await world.target_shelf_rules()
        world.script.always("describe_rules").answers(lambda _: replace(rules, policy=None))
        if switched_off_by != "us":
            world.custody.foreign.add(KEY.arn)
            world.target_shelf.disabled_keys.add(KEY.arn)
        if switched_off_by == "its owner":
            world.custody.keys[KEY.arn].state = "Disabled"
        job = await revoked(world, process)
        if switched_off_by == "nobody":
            assert (job.state, job.held_reason) == ("held", "still_readable")
            assert f"{TARGET_BUCKET} is unreadable" in (job.error or "")
            await assert_no_effect(world, process)
            return
        assert job.state == "completed"
        assert job.result is not None
        assert job.result["keys"] == {KEY.arn: "disabled"}
        assert job.result["buckets"] == {TARGET_BUCKET: "the store has no bucket policies"}


# --- the keys ---


async def test_a_key_that_is_on_although_it_was_disabled_is_no_revocation(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()

        def stays_on(arn: str, _state: str) -> None:
            world.custody.keys[arn].state = "Enabled"

        world.custody.switched = stays_on
        held = await revoked(world, process)
        assert (held.state, held.held_reason) == ("held", "still_readable")
        assert f"{KEY.arn} is Enabled, although it was disabled" in (held.error or "")
        assert_bucket_closed(world)
        await assert_no_effect(world, process)


@pytest.mark.parametrize("why", ["another account", "its policy"])
@pytest.mark.parametrize("kind", ["wrapped", "accepted"])
async def test_a_key_that_we_made_and_may_not_switch_off_is_a_fault(
    world: World, why: str, kind: str
) -> None:
    """A role or an account in the settings is amiss: the material is in the vendor's hands, and usable."""
    world.fill()
    async with world.process() as process:
        await process.move()
        await world.set_key_kind(kind)
        (world.custody.foreign if why == "another account" else world.custody.forbidden).add(KEY.arn)
        held = await revoked(world, process)
        assert (held.state, held.held_reason) == ("held", "custody_unavailable")
        assert KEY.arn in (held.error or "")
        assert_bucket_closed(world)
        await assert_no_effect(world, process)


@pytest.mark.parametrize(
    ("state", "did"),
    [
        (None, "gone"),
        ("PendingDeletion", "waits for its deletion"),
        ("PendingImport", "has no material"),
        ("Disabled", "disabled"),
    ],
)
async def test_a_key_that_nobody_can_use_any_more_counts_as_withdrawn(
    world: World, state: str | None, did: str
) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        take_away(world, state)
        done = await revoked(world, process)
        assert done.state == "completed"
        assert done.result is not None
        assert done.result["keys"] == {KEY.arn: did}
        assert len(world.metrics.revocations) == 1
        assert await states_of(process) == {KEY.arn: "revoked"}


def take_away(world: World, state: str | None) -> None:
    if state is None:
        del world.custody.keys[KEY.arn]
    else:
        world.custody.keys[KEY.arn].state = state
    world.target_shelf.disabled_keys.add(KEY.arn)


async def test_the_material_of_a_key_that_is_gone_is_destroyed(world: World) -> None:
    world.fill()
    world.custody.keys[KEY.arn].imported = True
    async with world.process() as process:
        await process.move()
        held = await revoked(world, process, mode="destroy")
        assert held.held_reason == "needs_approval"
        take_away(world, None)
        await process.direct.approve_job(REVOKE, "juan")
        done = await ended(process, REVOKE, "completed", "failed")
        assert done.result is not None
        assert done.result["keys"] == {KEY.arn: "destroyed"}
        assert await states_of(process) == {KEY.arn: "destroyed"}


async def test_a_destroyed_key_that_has_got_its_material_anew_is_disabled_by_a_later_revocation(
    world: World,
) -> None:
    world.fill()
    world.custody.keys[KEY.arn].imported = True
    async with world.process() as process:
        await process.move()
        await revoked(world, process, mode="destroy")
        await process.direct.approve_job(REVOKE, "juan")
        await ended(process, REVOKE, "completed")
        world.custody.keys[KEY.arn].state = "Enabled"
        world.target_shelf.disabled_keys.clear()
        await world.revoke(process.direct, "revoke-2")
        assert (await ended(process, "revoke-2")).state == "completed"
        assert_closed(world)
        assert await states_of(process) == {KEY.arn: "revoked"}


class SilentCustody(MemoryCustody):
    """A key service that never answers when a key is to be switched off."""

    async def disable(self, errand: Errand, arn: str) -> SwitchedKey:
        await asyncio.Event().wait()
        return await super().disable(errand, arn)


async def test_a_key_service_that_never_answers_keeps_no_bucket_open_and_no_job_waiting(world: World) -> None:
    world.fill()
    world.custody = SilentCustody()
    world.custody.add(KEY)
    async with world.process() as process:
        await process.move()
    world.timings = replace(world.timings, call_seconds_max=0.4)
    async with world.process() as process:
        await world.revoke(process.direct)
        async with process.working() as task:

            async def refuses() -> bool:
                return refuses_everybody(world.target_shelf.buckets[TARGET_BUCKET].policy, REFUSAL)

            await eventually(refuses, seconds_max=world.timings.lease_seconds)
            held = await process.reached(("held", "completed"), REVOKE, task=task)
        assert (held.state, held.held_reason) == ("held", "custody_unavailable")
        assert "gave no answer in time" in (held.error or "")
        await assert_no_effect(world, process)


# --- the way back ---


async def amid_a_rotation(world: World, process: Process) -> Mapping[str, Data]:
    """A tenant that is revoked while some of its data lie under its former key, and all is written under another."""
    objects = world.fill()
    await process.move()
    world.use_another_key()

    async def revoke(_call: object) -> None:
        await world.revoke(process.direct)

    world.script.on("put", bucket=TARGET_BUCKET, key="z").first_await(revoke)
    world.script.on("copy", bucket=TARGET_BUCKET, key="z").first_await(revoke)
    await world.rotate(process.direct)
    assert (await ended(process, REVOKE)).state == "completed"
    return objects


async def test_amid_a_rotation_nothing_is_lifted_before_the_former_key_reads_as_well(world: World) -> None:
    async with world.process() as process:
        objects = await amid_a_rotation(world, process)
        # Its owner doesn't let us enable it, and hasn't done so.
        world.custody.foreign.add(KEY.arn)
        await world.reinstate(process.direct)
        held = await ended(process, REINSTATE)
        assert (held.state, held.held_reason) == ("held", "key_unusable")
        assert f"{TARGET_BUCKET} under {KEY.arn} is unreadable" in (held.error or "")
        assert (await placement_of(process))[0] == "revoked"
        assert world.custody.keys[ANOTHER_KEY.arn].state == "Enabled"

        world.custody.keys[KEY.arn].state = "Enabled"
        world.target_shelf.disabled_keys.clear()
        await world.make_due()
        assert (await process.work(REINSTATE, until=("completed", "failed"))).state == "completed"
        assert (await process.work("rotate-1")).state == "completed"
        assert set(world.in_target()) == set(objects)
