"""Revoking overtakes everything of its tenant, is proven by canaries, and only its reinstatement lifts it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from rekeyd.domain.bucket_policy import refusal, refuses_everybody
from rekeyd.domain.custody import Errand
from rekeyd.domain.errors import ConflictError, RefusedError, UnavailableError
from rekeyd.domain.job import Job
from rekeyd.domain.tenant import serve
from tests.doubles.mortal import Life
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import (
    ANOTHER_KEY,
    KEY,
    SOURCE,
    TARGET_BUCKET,
    TENANT,
    Process,
    World,
    eventually,
    some_objects,
)

REVOKE, REINSTATE = "revoke-1", "reinstate-1"


@pytest.fixture(autouse=True)
def _short_leases(world: World) -> None:
    """A revocation is done once the claims that it ended have run out."""
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)


async def placement_of(process: Process) -> tuple[str, int, int, int]:
    """Phase, epoch, and how many locations may be read and written."""
    record, now = await process.direct.placement(TENANT)
    assert record is not None
    served = serve(record, now, 10.0)
    return served.phase, served.epoch, len(served.reads), len(served.writes)


async def states_of(process: Process) -> dict[str, str]:
    return {key.ref: key.state for key in await process.direct.tenant_keys(TENANT)}


def assert_closed(world: World) -> None:
    assert world.custody.keys[KEY.arn].state == "Disabled"
    assert_bucket_closed(world)


def assert_bucket_closed(world: World) -> None:
    assert refuses_everybody(world.target_shelf.buckets[TARGET_BUCKET].policy, refusal(TARGET_BUCKET, "aws"))


async def ended(process: Process, job_id: str, *states: str) -> Job:
    return await process.work(job_id, until=states or ("completed", "failed", "held"))  # type: ignore[arg-type]


async def test_a_dedicated_tenants_data_are_unreadable_and_come_back_as_they_were(world: World) -> None:
    objects = world.fill()
    async with world.process() as process:
        await process.move()
        epoch = (await placement_of(process))[1]
        await world.revoke(process.direct)
        assert await placement_of(process) == ("revoked", epoch + 1, 0, 0), "with its admission already"

        revoked = await ended(process, REVOKE)

        assert (revoked.state, revoked.error) == ("completed", None)
        assert revoked.result is not None
        assert revoked.result["keys"] == {KEY.arn: "disabled"}
        assert revoked.result["unreadable"] == [TARGET_BUCKET]
        assert revoked.result["readable_elsewhere"] == []
        assert_closed(world)
        assert await states_of(process) == {KEY.arn: "revoked"}
        (seconds,) = world.metrics.revocations
        assert revoked.result["effective_seconds"] == seconds
        (effect,) = await world.records(process.direct, "revocation.effective")
        assert effect["effective_seconds"] == seconds

        await world.reinstate(process.direct)
        reinstated = await ended(process, REINSTATE)

        assert (reinstated.state, reinstated.result) == (
            "completed",
            {"keys": {KEY.arn: "enabled"}, "undid": REVOKE},
        )
        assert await placement_of(process) == ("dedicated", epoch + 2, 1, 1)
        assert await states_of(process) == {KEY.arn: "active"}
        await world.assert_moved(process.direct, objects)


@pytest.mark.parametrize("name", ["a/empty", "b dressed+%2F", "z"])
async def test_amid_copying_everything_is_held_and_goes_on_after_the_reinstatement(
    world: World, name: str
) -> None:
    objects = world.fill()
    async with world.process() as process:

        async def revoke(_call: object) -> None:
            await world.revoke(process.direct)

        world.script.on("put", bucket=TARGET_BUCKET, key=name).first_await(revoke)
        await world.admit(process.direct)
        held = await ended(process, REVOKE)
        assert (held.state, held.held_reason) == ("held", "readable_elsewhere")
        assert str(SOURCE) in (held.error or "")
        job = await process.direct.job("job-1")
        assert (job.state, job.held_reason) == ("held", "revoked")
        assert_closed(world)
        assert await placement_of(process) == ("revoked", 1, 0, 0)
        assert sorted(world.in_source()) == sorted(objects)
        with pytest.raises(ConflictError, match="reinstatement"):
            await process.direct.resume_job("job-1", "an operator")

        await process.direct.approve_job(REVOKE, "an operator")
        done = await ended(process, REVOKE, "completed", "failed")
        assert done.state == "completed"
        assert str(SOURCE) in (done.error or "")
        assert done.accepted_by == "an operator"

        await world.reinstate(process.direct)
        await ended(process, REINSTATE)
        await process.work()
        await world.assert_moved(process.direct, objects)


async def test_amid_retiring_nothing_more_is_deleted(world: World) -> None:
    objects = world.fill()
    async with world.process() as process:

        async def revoke(_call: object) -> None:
            await world.revoke(process.direct)

        world.script.on("delete", bucket=SOURCE.bucket, nth=1).first_await(revoke)
        await world.admit(process.direct)
        held = await ended(process, REVOKE)
        left = world.in_source()
        deleted = len(world.script.mutations())
        assert held.held_reason in (None, "readable_elsewhere")
        assert await placement_of(process) == ("revoked", 4, 0, 0)
        await process.work(REVOKE)
        assert world.in_source() == left
        assert len(world.script.mutations()) == deleted

        await world.reinstate(process.direct)
        await ended(process, REINSTATE)
        await process.work()
        await world.assert_moved(process.direct, objects)


async def test_a_paused_tenants_pause_ends_by_it(world: World) -> None:
    world.fill()
    async with world.process() as process:
        world.script.on("list_page", bucket=SOURCE.bucket, nth=3).first_await(
            lambda _call: world.revoke(process.direct)
        )
        await world.admit(process.direct)
        await ended(process, REVOKE)
        record, _ = await process.direct.placement(TENANT)
        assert record is not None
        assert (record.phase, record.revoked_from, record.pause_ends_at) == ("revoked", "shared", None)


async def test_revoking_again_changes_nothing_and_says_so(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        await world.revoke(process.direct)
        await ended(process, REVOKE)
        before, mutations = await placement_of(process), len(world.script.mutations())
        await world.revoke(process.direct, "revoke-2")
        again = await ended(process, "revoke-2")
        assert (again.state, again.error) == (
            "completed",
            f"the tenant is revoked already, by {REVOKE}: nothing was changed",
        )
        assert await placement_of(process) == before
        assert len(world.script.mutations()) == mutations
        with pytest.raises(RefusedError, match="revoke-2 isn't what revoked the tenant"):
            await world.reinstate(process.direct, undoes="revoke-2")


async def test_revoking_again_closes_what_somebody_has_opened_and_says_so(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        await world.revoke(process.direct)
        await ended(process, REVOKE)
        await world.custody.enable(Errand(TENANT, "somebody"), KEY.arn)
        await world.revoke(process.direct, "revoke-2")
        again = await ended(process, "revoke-2")
        assert (again.state, again.error) == (
            "completed",
            f"the tenant is revoked already, by {REVOKE}: closed anew: {KEY.arn}",
        )
        assert_closed(world)
        await world.reinstate(process.direct)
        assert (await ended(process, REINSTATE)).state == "completed"


async def test_a_revoked_tenant_is_moved_no_more_and_an_unknown_one_has_no_key(world: World) -> None:
    world.fill()
    async with world.process() as process:
        with pytest.raises(RefusedError, match="has no key here"):
            await world.revoke(process.direct)
        await process.move()
        with pytest.raises(RefusedError, match="isn't revoked"):
            await world.reinstate(process.direct)
        await world.revoke(process.direct)
        with pytest.raises(RefusedError, match=f"is revoked by {REVOKE}"):
            await world.admit(process.direct, "job-2")


async def test_material_is_deleted_only_once_another_person_has_approved_it(world: World) -> None:
    world.fill()
    world.custody.keys[KEY.arn].imported = True
    async with world.process() as process:
        await process.move()
        await world.revoke(process.direct, principal="maria", mode="destroy")
        held = await ended(process, REVOKE)
        assert (held.state, held.held_reason) == ("held", "needs_approval")
        assert_closed(world)
        with pytest.raises(ConflictError, match="another person"):
            await process.direct.approve_job(REVOKE, "maria")

        await process.direct.approve_job(REVOKE, "juan")
        done = await ended(process, REVOKE, "completed", "failed")

        assert done.state == "completed"
        assert done.result is not None
        assert (done.result["keys"], done.result["approved_by"]) == ({KEY.arn: "destroyed"}, "juan")
        assert world.custody.keys[KEY.arn].state == "PendingImport"
        assert await states_of(process) == {KEY.arn: "destroyed"}


@pytest.mark.parametrize("why", ["another account", "its policy"])
async def test_a_key_that_is_not_ours_to_disable_is_not_touched_and_the_bucket_refuses_everybody(
    world: World, why: str
) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        (world.custody.foreign if why == "another account" else world.custody.forbidden).add(KEY.arn)
        await world.revoke(process.direct)
        done = await ended(process, REVOKE)
        assert done.state == "completed"
        assert "not touched" in (done.error or "")
        assert world.custody.keys[KEY.arn].state == "Enabled"
        assert_bucket_closed(world)


async def test_a_key_service_that_is_away_keeps_the_bucket_closed_and_is_asked_again(world: World) -> None:
    world.fill()
    world.timings = replace(world.timings, held_recheck_seconds=0.05)
    async with world.process() as process:
        await process.move()
        world.custody.unreachable = True
        await world.revoke(process.direct)
        held = await ended(process, REVOKE)
        assert (held.state, held.held_reason) == ("held", "custody_unavailable")
        assert_bucket_closed(world)
        assert world.custody.keys[KEY.arn].state == "Enabled"
        assert world.metrics.revocations == []
        assert await world.records(process.direct, "revocation.effective") == []

        world.custody.unreachable = False
        done = await process.work(REVOKE, until=("completed", "failed"))
        assert done.state == "completed"
        assert_closed(world)
        assert len(world.metrics.revocations) == 1


async def test_what_can_still_be_read_is_never_called_revoked(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        # The store neither has policies nor asks for the key.
        world.custody.switched = lambda _arn, _state: None
        world.script.on("set_policy", times=100).fails(UnavailableError)
        await world.revoke(process.direct)
        held = await ended(process, REVOKE)
        assert (held.state, held.held_reason) == ("held", "still_readable")
        assert f"{TARGET_BUCKET} is readable" in (held.error or "")
        assert world.metrics.revocations == []


async def test_every_key_of_the_tenant_is_withdrawn_whatever_its_state(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await world.admit(process.direct, "job-of-the-first-key")
        await process.direct.cancel_job("job-of-the-first-key", "an operator")
        world.use_another_key()
        await process.move()
        await world.revoke(process.direct)
        done = await ended(process, REVOKE)
        assert done.result is not None
        assert done.result["keys"] == {KEY.arn: "disabled", ANOTHER_KEY.arn: "disabled"}
        assert {key.state for key in world.custody.keys.values()} == {"Disabled"}

        await world.reinstate(process.direct)
        await ended(process, REINSTATE)
        assert await states_of(process) == {KEY.arn: "pending", ANOTHER_KEY.arn: "active"}


@pytest.mark.parametrize("job_id", [REVOKE, REINSTATE])
async def test_a_death_at_any_call_of_revoking_and_reinstating_costs_nothing(
    make_world: MakeWorld, job_id: str
) -> None:
    first, life = make_world(), Life()
    await until_due(first, job_id)
    begun = make_world()
    begun.stand_like(first)
    async with first.process(life=life) as process:
        await process.work(job_id)
    # To die after a call, before anybody has its answer, is also to die before the next one.
    for dies_at in range(1, len(life.calls) + 1):
        world = make_world()
        world.stand_like(begun)
        await dies_amid(world, job_id, Life(dies_at, "after"))


async def until_due(world: World, job_id: str) -> None:
    """A tenant that has moved, and is about to be revoked, or reinstated."""
    world.fill()
    async with world.process() as process:
        await process.move()
        await world.revoke(process.direct)
        if job_id == REINSTATE:
            await process.work(REVOKE)
            await world.reinstate(process.direct)


async def dies_amid(world: World, job_id: str, life: Life) -> None:
    async with world.process("the dying one", life) as process:
        with suppress(BaseExceptionGroup):
            await process.work(job_id)
    await world.expire_leases()
    await world.make_due()
    async with world.process("daemon-2") as process:
        assert (await ended(process, job_id)).state == "completed"
        if job_id == REVOKE:
            assert_closed(world)
            assert await states_of(process) == {KEY.arn: "revoked"}
            assert len(await world.records(process.direct, "revocation.effective")) == 1
            await world.reinstate(process.direct)
            await ended(process, REINSTATE)
        assert await states_of(process) == {KEY.arn: "active"}
        await world.assert_moved(process.direct, some_objects())


async def test_a_reinstatement_ends_a_revocation_that_waits_for_somebodys_word(world: World) -> None:
    objects = world.fill()
    async with world.process() as process:
        await world.admit(process.direct)
        await world.revoke(process.direct)
        held = await ended(process, REVOKE)
        assert held.held_reason == "readable_elsewhere"
        await world.reinstate(process.direct)
        await ended(process, REINSTATE)
        assert (await process.direct.job(REVOKE)).state == "cancelled"

        async def moved() -> bool:
            return (await process.direct.job("job-1")).state == "completed"

        async with process.working():
            await eventually(moved)
        await world.assert_moved(process.direct, objects)
