"""A revocation beside what opens again or can't be closed: a daemon that hasn't noticed, a key of ours, a lost key."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from rekeyd.domain.custody import Errand
from tests.jobs.test_bring import bringing
from tests.jobs.test_revoke import REVOKE, assert_closed, ended
from tests.jobs.world import ANOTHER_KEY, KEY, TENANT, World, eventually


@pytest.fixture(autouse=True)
def _short_leases(world: World) -> None:
    """A revocation is done once the claims that it ended have run out."""
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)


async def test_what_somebody_opens_before_its_lease_ends_is_closed_again(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        world.custody.add(ANOTHER_KEY)
        await world.rotate(process.direct)
        lingering = await process.direct.claim_job("another daemon", 3.0)
        assert lingering is not None
        await world.revoke(process.direct)
        async with process.working() as task:

            async def effective() -> bool:
                return bool(world.metrics.revocations)

            await eventually(effective)
            await world.custody.enable(Errand(TENANT, "another daemon"), KEY.arn)
            await process.reached(("completed", "failed"), REVOKE, task=task)

        assert_closed(world)


async def test_without_the_key_service_no_revocation_is_called_effective(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        world.custody.unreachable = True
        await world.revoke(process.direct)
        held = await ended(process, REVOKE)

        assert (held.state, held.held_reason) == ("held", "custody_unavailable")
        assert world.metrics.revocations == []
        assert held.result is None


async def test_a_key_of_our_making_that_can_not_be_switched_is_tried_again_and_never_passed_over(
    world: World,
) -> None:
    async with world.process() as process:
        world.fill()
        bringing(world)
        await process.move()
        world.custody.foreign.add(world.key_arn)
        await world.revoke(process.direct)
        held = await ended(process, REVOKE)

        assert (held.state, held.held_reason) == ("held", "custody_unavailable")
        assert world.metrics.revocations == []


async def test_a_key_that_is_gone_keeps_no_revocation_from_its_end(world: World) -> None:
    async with world.process() as process:
        world.fill()
        await process.move()
        await world.rotate(process.direct)  # to a key that there never was
        await world.revoke(process.direct)
        done = await ended(process, REVOKE)

        assert done.state == "completed"
        assert done.result is not None
        keys = dict(cast("dict[str, str]", done.result["keys"]))
        assert keys[KEY.arn] == "disabled"
        assert keys[ANOTHER_KEY.arn].startswith("gone")
