"""SIGTERM: nothing more is begun, what is in flight may end for a bounded time, and the next start goes on."""

from __future__ import annotations

import os
import signal
import time

import pytest

from rekeyd.demo import proof
from rekeyd.domain.objects import OWN_PREFIX
from tests.doubles.weather import Asked, Fault, Weather, fair
from tests.e2e.harness import Scene, mixed_items
from tests.e2e.middle import FREE, WRITES
from tests.e2e.test_kills import JOB, SLOWLY, until_paused

LEASE_SECONDS = 90.0
BUSY_SECONDS = 30.0
"""What ending takes at most where other processes have the processors, too; far less than a request or draining may."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


def stalled_copies(asked: Asked) -> Fault | None:
    """Those of the tenant's objects: rekeyd's own are copied before, to prove conditions."""
    copies = asked.operation in ("CopyObject", "UploadPartCopy") and f"/{OWN_PREFIX}" not in asked.target
    return "stalled" if copies else None


async def test_a_daemon_told_to_stop_leaves_nothing_half_written(scene: Scene) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            endpoint=weather.endpoint_url,
            target_store="s3b",
            limits=SLOWLY | {"lease_seconds": LEASE_SECONDS},
        )
        acme = await scene.tenant("acme", mixed_items())
        # Each takes its time, and is answered: a call without an answer would keep its claim until its deadline.
        weather.forecast = lambda asked: "delayed" if asked.operation in WRITES else None
        await scene.send(acme.message())
        async with scene.ledger() as ledger:
            async with scene.serving() as served:
                await ledger.until_copying(JOB, verified_min=FREE)
                began = time.monotonic()
                assert await served.daemon.stop() == 0
                assert time.monotonic() - began < BUSY_SECONDS + 10, "no longer than drain_seconds_max"
            job = await ledger.job(JOB)
            assert job is not None
            assert job.state == "running"
            assert FREE <= job.counts.objects_verified < len(acme.loaded)
            in_target = [acme.target.bucket]
            assert (await proof.no_unfinished_uploads(scene.clients.s3, in_target)).faults == ()
            await scene.assert_untouched(acme)

            weather.forecast = fair
            # It gave its claims back: the next one needn't wait until they expire.
            async with scene.serving() as served:
                await served.until_logged("job_claimed", seconds_max=LEASE_SECONDS)
                await ledger.until_state(JOB, "completed")
                assert await served.daemon.stop() == 0
        await scene.assert_moved(acme)
        await scene.assert_audit_whole()


async def test_a_daemon_told_to_stop_amid_a_pause_lets_the_writers_go_on(scene: Scene) -> None:
    await scene.open()
    acme = await scene.tenant("acme", mixed_items(5))
    await scene.admit(acme.message())
    async with scene.ledger() as ledger:
        async with scene.serving() as served:
            await until_paused(ledger, acme)
            assert await served.daemon.stop() == 0
        placement = await ledger.placement("acme")
    assert placement is not None
    assert placement.phase == "shared"


async def test_draining_ends_although_the_store_is_silent(scene: Scene) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            endpoint=weather.endpoint_url,
            limits={"request_seconds_max": 60, "lease_seconds": 90, "drain_seconds_max": 1},
        )
        acme = await scene.tenant("acme", mixed_items(5))
        await scene.admit(acme.message())
        async with scene.serving() as served:
            weather.forecast = stalled_copies
            await weather.until_suffered("CopyObject", "stalled")
            began = time.monotonic()
            assert await served.daemon.stop() == 0
            assert time.monotonic() - began < BUSY_SECONDS
    await scene.assert_untouched(acme)


async def test_a_second_signal_stops_at_once(scene: Scene) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            endpoint=weather.endpoint_url,
            limits={"request_seconds_max": 60, "lease_seconds": 90, "drain_seconds_max": 600},
        )
        acme = await scene.tenant("acme", mixed_items(5))
        await scene.admit(acme.message())
        async with scene.serving() as served:
            weather.forecast = stalled_copies
            await weather.until_suffered("CopyObject", "stalled")
            os.kill(served.pid, signal.SIGTERM)
            await served.until_logged("draining")
            assert (await served.telemetry("/healthz"))[0] == 200
            status, text = await served.telemetry("/readyz")
            assert (status, "draining" in text) == (503, True)
            assert served.daemon.status is None

            began = time.monotonic()
            os.kill(served.pid, signal.SIGTERM)
            assert await served.ended() == 1
            assert time.monotonic() - began < BUSY_SECONDS
    await scene.assert_untouched(acme)
