"""SIGKILL at any moment costs nothing: the next start resumes, and every object ends exactly once in the target."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from rekeyd.domain.tenant import Placement
from tests.doubles.weather import Weather, fair
from tests.e2e.harness import LedgerView, Scene, Tenant, mixed_items, until
from tests.e2e.middle import DELETES, FREE, PATIENT, WRITES, stalls_all_but_a_few

pytestmark = pytest.mark.asyncio(loop_scope="session")

JOB = "acme-migrate-1"
SLOWLY = {
    # Two objects at a time, so that there is a middle to be killed in; short leases, which a killed daemon keeps.
    "objects_in_flight_max": 2,
    "request_seconds_max": 2,
    "connect_seconds_max": 1,
    "lease_seconds": 3,
}
ONE_BY_ONE = {"batch_delete_conditions": False}
KILLS = 6

Moment = Callable[[Scene, LedgerView, Tenant], Awaitable[None]]


async def copying(_scene: Scene, ledger: LedgerView, _tenant: Tenant) -> None:
    await ledger.until_copying(JOB, verified_min=FREE)


async def paused(_scene: Scene, ledger: LedgerView, tenant: Tenant) -> None:
    await until_paused(ledger, tenant)


async def retiring(scene: Scene, ledger: LedgerView, tenant: Tenant) -> None:
    """Some of the source is deleted, not all."""
    await ledger.until_job(JOB, lambda job: job.phase == "retire")

    async def some_deleted() -> bool:
        return len(await scene.keys_in(tenant.source)) < len(tenant.loaded)

    await until(some_deleted)


async def until_paused(ledger: LedgerView, tenant: Tenant) -> Placement:
    async def is_paused() -> Placement | None:
        placement = await ledger.placement(tenant.name)
        return placement if placement is not None and placement.phase == "paused" else None

    found: Placement = await until(is_paused)
    return found


@pytest.mark.parametrize(
    ("moment", "target_store"),
    [(copying, "s3"), (copying, "s3b"), (paused, "s3"), (retiring, "s3")],
    ids=["copying", "streaming", "paused", "retiring"],
)
async def test_what_a_kill_interrupts_is_completed_by_the_next_start(
    scene: Scene, moment: Moment, target_store: str
) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            endpoint=weather.endpoint_url,
            target_store=target_store,
            limits=SLOWLY | PATIENT,
            stores__s3=ONE_BY_ONE,
        )
        acme = await scene.tenant("acme", mixed_items())
        if moment is copying:
            weather.forecast = stalls_all_but_a_few(acme.target, acme.loaded, WRITES)
        if moment is retiring:
            weather.forecast = stalls_all_but_a_few(acme.source, acme.loaded, DELETES)
        await scene.send(acme.message())
        async with scene.ledger() as ledger:
            async with scene.serving() as served:
                await moment(scene, ledger, acme)
                await served.daemon.kill()
            weather.forecast = fair
            job = await ledger.job(JOB)
            assert job is not None
            assert job.state == "running"
            if moment is copying:
                assert job.counts.objects_verified == FREE
            if moment is retiring:
                assert len(await scene.keys_in(acme.source)) >= len(acme.loaded) - FREE
            else:
                await scene.assert_untouched(acme)

            async with scene.serving() as served:
                done = await ledger.until_state(JOB, "completed")
                assert await served.daemon.stop() == 0
            assert done.counts.objects_verified == done.counts.objects_deleted == len(acme.loaded)
            placement = await ledger.placement("acme")
            assert placement is not None
            assert placement.phase == "dedicated"
    await scene.assert_moved(acme)
    await scene.assert_audit_whole()


async def test_a_pause_ends_by_itself_although_nobody_is_left(scene: Scene) -> None:
    await scene.open(limits=SLOWLY, migrate={"pause_seconds_max": 6})
    acme = await scene.tenant("acme", mixed_items(20))
    await scene.admit(acme.message())
    async with scene.ledger() as ledger:
        async with scene.serving() as served:
            await until_paused(ledger, acme)
            await served.daemon.kill()
        before = await scene.ask("placement", "acme")

        async def shared() -> bool:
            placement = await ledger.placement("acme")
            return placement is not None and placement.phase == "shared"

        await until(shared)
        after = await scene.ask("placement", "acme")
        assert (before["phase"], before["writes"]) == ("paused", [])
        assert (after["phase"], after["writes"]) == ("shared", [str(acme.source)])
        assert after["epoch"] > before["epoch"]

        # So writers went on, and what they wrote is not left behind.
        await scene.put(acme, "written-after-the-pause", b"written")
        async with scene.serving():
            await ledger.until_state(JOB, "completed")
        placement = await ledger.placement("acme")
        assert placement is not None
        assert placement.epoch > after["epoch"]
    await scene.assert_moved(acme)


async def test_kills_at_random_moments(scene: Scene) -> None:
    dice = random.Random(20261122)
    await scene.open(
        limits=SLOWLY | {"request_seconds_max": 1, "connect_seconds_max": 0.5, "lease_seconds": 1.6},
        stores__s3=ONE_BY_ONE,
    )
    acme = await scene.tenant("acme", mixed_items())
    await scene.send(acme.message())
    kills = 0
    async with scene.ledger() as ledger:
        for _ in range(KILLS):
            async with scene.serving() as served:
                await served.until_logged("job_claimed")
                # The one wait that isn't for a condition: any moment will do.
                await asyncio.sleep(dice.uniform(0.05, 1.2))
                job = await ledger.job(JOB)
                assert job is not None
                if job.state == "completed":
                    break
                await served.daemon.kill()
                kills += 1
        async with scene.serving():
            await ledger.until_state(JOB, "completed")
    assert kills >= 3
    await scene.assert_moved(acme)
    await scene.assert_audit_whole()
