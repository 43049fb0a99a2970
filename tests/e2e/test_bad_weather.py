"""Between rekeyd and its store answers are lost, broken off, refused and faked: everything still arrives whole."""

from __future__ import annotations

from itertools import cycle

import pytest

from tests.doubles.weather import Asked, Fault, Weather, fair, foul
from tests.e2e.harness import Scene, mixed_items, small_items, until
from tests.e2e.test_kills import JOB, until_paused

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATIENT = {"request_attempts_max": 8, "backoff_seconds_base": 0.02, "backoff_seconds_max": 0.3}
SPOILT = 0.12


@pytest.mark.parametrize("target_store", ["s3", "s3b"], ids=["server_side", "streaming"])
async def test_a_migration_through_foul_weather(scene: Scene, target_store: str) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(target_store=target_store, endpoint=weather.endpoint_url, limits=PATIENT)
        acme = await scene.tenant("acme", mixed_items())
        neighbour = await scene.tenant("globex", small_items(10))
        weather.forecast = foul(seed=20261122, fraction=SPOILT)
        await scene.send(acme.message())
        async with scene.serving() as served, scene.ledger() as ledger:
            done = await ledger.until_state(JOB, "completed", seconds_max=100)
            throttled = await served.metric("rekeyd_store_throttled_total")
            assert await served.daemon.stop() == 0
    assert done.counts.objects_verified == done.counts.objects_deleted == len(acme.loaded)
    faults = {fault for (_, fault) in weather.suffered}
    assert faults >= {"slow_down", "internal", "reset_unsent", "reset_unanswered", "truncated"}
    assert (
        throttled >= sum(count for (_, fault), count in weather.suffered.items() if fault == "slow_down") / 2
    )
    await scene.assert_moved(acme)
    await scene.assert_untouched(neighbour)
    await scene.assert_audit_whole()


ERRORS: tuple[Fault, ...] = ("internal", "slow_down", "reset_unsent", "truncated", "empty_200", "garbage_200")


@pytest.mark.parametrize("faults", [ERRORS, ("no_keys_200",)], ids=["errors", "no_keys"])
async def test_nothing_is_deleted_by_a_listing_that_fails(scene: Scene, faults: tuple[Fault, ...]) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        # A short pause, and so a short rest after one in vain.
        await scene.open(endpoint=weather.endpoint_url, limits=PATIENT, migrate={"pause_seconds_max": 8})
        acme = await scene.tenant("acme", mixed_items(20))
        await scene.admit(acme.message())
        turns = cycle(faults)

        def spoils_listings(asked: Asked) -> Fault | None:
            of_source = f"/{scene.bucket}" in asked.target
            return next(turns) if asked.operation == "ListObjectsV2" and of_source else None

        async with scene.serving(), scene.ledger() as ledger:
            await until_paused(ledger, acme)
            weather.forecast = spoils_listings
            written = await scene.snapshot(acme.target, own=False)
            assert written.keys() >= acme.loaded.keys()

            async def fails_again_and_again() -> bool:
                return all(weather.suffered["ListObjectsV2", fault] >= 2 for fault in faults)

            async def writers_go_on() -> bool:
                placement = await ledger.placement("acme")
                return placement is not None and placement.phase == "shared"

            await until(fails_again_and_again)
            await until(writers_go_on)
            assert await scene.snapshot(acme.target, own=False) == written
            await scene.assert_untouched(acme)
            job = await ledger.job(JOB)
            assert job is not None
            assert job.state in ("running", "held")
            assert job.counts.objects_deleted == 0

            weather.forecast = fair
            await ledger.until_state(JOB, "completed")
    await scene.assert_moved(acme)
