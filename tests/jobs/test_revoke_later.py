"""A later revocation is never too late: it ends whatever gives back, and closes what that has opened."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rekeyd.domain.errors import ConflictError, RefusedError
from rekeyd.domain.tenant import PlacementRecord
from tests.jobs.test_revoke import (
    REINSTATE,
    REVOKE,
    assert_bucket_closed,
    assert_closed,
    ended,
    placement_of,
    states_of,
)
from tests.jobs.world import ANOTHER_KEY, KEY, TARGET_BUCKET, TENANT, Process, World, eventually

AGAIN = "revoke-2"


@pytest.fixture(autouse=True)
def _short_leases(world: World) -> None:
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)


async def revoked(world: World, process: Process) -> None:
    """A tenant that has moved, and is revoked."""
    await process.move()
    await world.revoke(process.direct)
    assert (await ended(process, REVOKE)).state == "completed"


async def half_reinstated(world: World, process: Process) -> None:
    """The key is enabled, the bucket open; but the store doesn't read, so that placement says `revoked` still."""
    await revoked(world, process)
    switched = world.custody.switched
    world.custody.switched = lambda _arn, _state: None
    await world.reinstate(process.direct)
    held = await ended(process, REINSTATE)
    assert (held.state, held.held_reason) == ("held", "key_unusable")
    assert world.custody.keys[KEY.arn].state == "Enabled"
    assert "rekeydDenyRevoked" not in str(world.target_shelf.buckets[TARGET_BUCKET].policy)
    world.custody.switched = switched
    world.target_shelf.disabled_keys.clear()


async def record_of(process: Process) -> PlacementRecord:
    record, _ = await process.direct.placement(TENANT)
    assert record is not None
    return record


@pytest.mark.parametrize("mode", ["disable", "destroy"])
async def test_it_closes_what_a_half_done_reinstatement_has_opened_and_ends_that(
    world: World, mode: str
) -> None:
    objects = world.fill()
    async with world.process() as process:
        await half_reinstated(world, process)

        await world.revoke(process.direct, AGAIN, mode=mode)

        ended_by_it = await process.direct.job(REINSTATE)
        assert (ended_by_it.state, ended_by_it.error) == ("cancelled", f"revoked anew by {AGAIN}")
        assert (await record_of(process)).revoked_by == AGAIN
        done = await ended(process, AGAIN)
        assert_closed(world)
        assert done.result is not None
        assert done.result["revoked_already_by"] == REVOKE
        assert done.result["found_open"] == sorted([KEY.arn, TARGET_BUCKET])
        if mode == "destroy":
            assert done.held_reason == "needs_approval"
            return
        assert (done.state, done.error) == (
            "completed",
            f"the tenant is revoked already, by {REVOKE}: closed anew: {KEY.arn}, {TARGET_BUCKET}",
        )
        await world.make_due()
        await process.work(REINSTATE)  # nobody takes it up again
        assert (await placement_of(process))[0] == "revoked"
        assert_closed(world)
        with pytest.raises(RefusedError, match=f"revoked by {AGAIN}"):
            await world.reinstate(process.direct, "reinstate-2")
        await world.reinstate(process.direct, "reinstate-3", undoes=AGAIN)
        assert (await ended(process, "reinstate-3")).state == "completed"
        await world.assert_moved(process.direct, objects)


async def test_a_reinstatement_that_has_begun_is_not_cancelled_one_that_has_not_is(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await half_reinstated(world, process)
        with pytest.raises(ConflictError, match="hand in another revocation"):
            await process.direct.cancel_job(REINSTATE, "an operator")
        await world.revoke(process.direct, AGAIN)
        await ended(process, AGAIN)
        assert_closed(world)

        await world.reinstate(process.direct, "reinstate-2", undoes=AGAIN)
        await process.direct.cancel_job("reinstate-2", "an operator")
        assert (await ended(process, "reinstate-2", "cancelled")).state == "cancelled"
        assert_closed(world)
        assert (await placement_of(process))[0] == "revoked"


@pytest.mark.parametrize("enabled", [0, 1, 2])
async def test_a_reinstatement_gives_nothing_more_back_once_a_revocation_came(
    world: World, enabled: int
) -> None:
    world.fill()
    async with world.process() as process:
        await world.admit(process.direct, "job-of-the-first-key")
        await process.direct.cancel_job("job-of-the-first-key", "an operator")
        world.use_another_key()
        await revoked(world, process)
        asked = 0

        async def revoke_at_last() -> None:
            nonlocal asked
            asked += 1
            if asked == enabled + 1:
                await world.revoke(process.direct, AGAIN)

        process.seen_ledger.before["check_undoing"] = revoke_at_last
        opened = world.script.count("set_policy")
        switched: list[tuple[str, str]] = []
        world.custody.switched = lambda arn, state: switched.append((arn, state))
        await world.reinstate(process.direct)
        done = await ended(process, AGAIN)

        assert done.state == "completed"
        assert [arn for arn, state in switched if state == "Enabled"] == [KEY.arn, ANOTHER_KEY.arn][:enabled]
        assert world.script.count("set_policy") == opened, "the bucket was closed all the time"
        assert {key.state for key in world.custody.keys.values()} == {"Disabled"}
        assert set((await states_of(process)).values()) == {"revoked"}
        assert_bucket_closed(world)


async def test_what_another_daemon_opens_before_it_notices_is_closed_again(world: World) -> None:
    """The call was under way; its holder, cut off from the ledger, learns of the revocation only later."""
    world.timings = replace(world.timings, lease_seconds=9.0, call_seconds_max=5.0)
    world.fill()
    opening, effective = asyncio.Event(), asyncio.Event()

    async def stall(_call: object) -> None:
        opening.set()
        await effective.wait()

    async def cut_off() -> None:
        await asyncio.Event().wait()

    async with world.process() as process, world.process("daemon-2") as other:
        await revoked(world, process)
        world.script.on("set_policy", bucket=TARGET_BUCKET).first_await(stall)
        process.seen_ledger.before["renew_job"] = cut_off
        await world.reinstate(process.direct)
        async with process.working():
            await opening.wait()
            await world.revoke(other.direct, AGAIN)
            async with other.working():

                async def is_effective() -> bool:
                    return "effective_seconds" in ((await other.direct.job(AGAIN)).result or {})

                await eventually(is_effective)
                assert_closed(world)
                effective.set()

                async def is_open() -> bool:
                    return "rekeydDenyRevoked" not in str(world.target_shelf.buckets[TARGET_BUCKET].policy)

                await eventually(is_open)
                assert (await other.direct.job(AGAIN)).state == "running", "not called complete as long as"

                done = await other.reached(("completed", "failed", "held"), AGAIN)
        assert done.state == "completed"
        assert_closed(world)
        assert done.result is not None
        assert done.result["closed_again"] == [TARGET_BUCKET]
        (again,) = await world.records(process.direct, "revocation.closed_again")
        assert again["closed_again"] == [TARGET_BUCKET]
        assert (await placement_of(process))[0] == "revoked"


async def test_an_older_revocation_that_is_tried_again_does_not_take_over(world: World) -> None:
    world.fill()
    world.timings = replace(world.timings, held_recheck_seconds=0.05)
    async with world.process() as process:
        await process.move()
        world.custody.unreachable = True
        await world.revoke(process.direct)
        await ended(process, REVOKE, "held")
        await world.revoke(process.direct, AGAIN, mode="destroy")
        world.custody.unreachable = False
        assert (await ended(process, REVOKE, "completed")).state == "completed"
        assert (await ended(process, AGAIN, "held")).held_reason == "needs_approval"
        assert (await record_of(process)).revoked_by == AGAIN


async def test_one_that_is_asked_for_at_a_time_takes_over_when_that_comes_and_only_once(world: World) -> None:
    world.fill()
    later = datetime.now(UTC) + timedelta(hours=1)
    async with world.process() as process:
        await half_reinstated(world, process)
        await world.revoke(process.direct, AGAIN, not_before=later.isoformat())
        assert (await process.direct.job(REINSTATE)).state == "held"
        await world.make_due()
        assert (await ended(process, AGAIN)).state == "completed"
        assert (await process.direct.job(REINSTATE)).state == "cancelled"
        assert (await record_of(process)).revoked_by == AGAIN
        assert_closed(world)


async def test_a_reinstatement_ends_every_revocation_that_waits_but_one_that_is_yet_to_come(
    world: World,
) -> None:
    world.fill()
    later = datetime.now(UTC) + timedelta(hours=1)
    async with world.process() as process:
        await process.move()
        for job_id in (REVOKE, AGAIN):
            await world.revoke(process.direct, job_id, mode="destroy")
            assert (await ended(process, job_id)).held_reason == "needs_approval"
        await world.revoke(process.direct, "revoke-3", not_before=later.isoformat())
        await world.reinstate(process.direct, undoes=AGAIN)
        assert (await ended(process, REINSTATE)).state == "completed"
        states = [(await process.direct.job(each)).state for each in (REVOKE, AGAIN, "revoke-3")]
        assert states == ["cancelled", "cancelled", "queued"]
