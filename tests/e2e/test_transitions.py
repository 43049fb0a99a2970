"""Successive daemons die at successive phases, and two at once work on one ledger: it ends exactly as it should."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from rekeyd.domain.control import CONTROL_KEY
from rekeyd.domain.job import Job, JobPhase
from rekeyd.ledger.port import SEGMENT_OBJECTS_MAX
from tests.doubles.weather import Asked, Fault, Weather, fair
from tests.e2e.harness import LedgerView, Scene, Served, Tenant, large_items, small_items, until
from tests.e2e.test_kills import JOB, ONE_BY_ONE

pytestmark = pytest.mark.asyncio(loop_scope="session")

HASTY = {"request_seconds_max": 2, "connect_seconds_max": 1, "lease_seconds": 4, "poll_seconds": 0.05}
PHASES: tuple[JobPhase, ...] = ("preflight", "provision", "copy", "pause", "switch", "grace", "retire")


def stalls(phase: JobPhase, tenant: Tenant) -> Callable[[Asked], Fault | None]:
    """Holds a daemon up in a phase by a request. A pause and a grace last long enough by themselves."""
    source, target = f"/{tenant.source.bucket}", f"/{tenant.target.bucket}"
    controls = itertools.count(1)

    def forecast(asked: Asked) -> Fault | None:
        of_target = asked.target.startswith(target)
        writes_control = asked.operation == "PutObject" and asked.target.partition("?")[0].endswith(
            CONTROL_KEY
        )
        mine = {
            "preflight": asked.operation == "Bucket" and asked.target.startswith(source),
            "provision": asked.operation == "Bucket" and asked.method == "PUT" and of_target,
            "copy": asked.operation == "CopyObject" and asked.target.endswith("5"),
            # The first one is for the pause, the next one for the switch, which is committed by then.
            "switch": phase == "switch" and writes_control and next(controls) > 1,
            "retire": asked.operation == "DeleteObject" and asked.target.startswith(source),
        }
        return "stalled" if mine.get(phase, False) else None

    return forecast


async def until_phase(scene: Scene, ledger: LedgerView, phase: JobPhase) -> Job:
    """The job, as soon as the ledger shows it in the phase, or beyond it."""
    beyond = (*PHASES[PHASES.index(phase) :], "done")

    async def there() -> Job | None:
        scene.assert_running()
        job = await ledger.job(JOB)
        return job if job is not None and job.phase in beyond else None

    found: Job = await until(there, what=f"the phase {phase}")
    return found


async def test_successive_kills_at_every_phase_and_transition(scene: Scene) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            endpoint=weather.endpoint_url,
            limits=HASTY,
            stores__s3=ONE_BY_ONE,
            migrate={"pause_seconds_max": 20},
        )
        acme = await scene.tenant("acme", [*small_items(20), *large_items(1, 6 * 1024**2)])
        await scene.admit(acme.message(options={"grace_seconds": 6}))
        killed: list[str] = []
        async with scene.ledger() as ledger:
            for phase in PHASES:
                weather.forecast = stalls(phase, acme)
                async with scene.serving() as served:
                    job = await until_phase(scene, ledger, phase)
                    await served.daemon.kill()
                killed.append(job.phase)
                placement = await ledger.placement("acme")
                assert job.counts.objects_deleted == 0
                if placement is None or placement.phase != "dedicated":
                    await scene.assert_untouched(acme)
            weather.forecast = fair
            async with scene.serving() as served:
                done = await ledger.until_state(JOB, "completed")
                assert await served.daemon.stop() == 0
    assert killed == list(PHASES)
    assert done.counts.objects_verified == done.counts.objects_deleted == len(acme.loaded)
    await scene.assert_moved(acme)
    await scene.assert_audit_whole()


async def test_two_daemons_on_one_ledger_and_one_is_killed(scene: Scene) -> None:
    """Each has a segment of one tenant's; who holds the job dies amid it, and the other one ends the story."""
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            endpoint=weather.endpoint_url,
            limits=HASTY | {"segments_in_flight_max": 1, "object_attempts_max": 100},
        )
        # One more segment than there are objects in the largest one.
        acme = await scene.tenant("acme", small_items(SEGMENT_OBJECTS_MAX + 10))
        keys = sorted(acme.loaded)
        last_ones = (keys[SEGMENT_OBJECTS_MAX - 1], keys[-1])

        def stalls_the_last_ones(asked: Asked) -> Fault | None:
            # Put as well: what a store fails to copy is streamed the next time.
            writes = asked.operation in ("CopyObject", "PutObject")
            return "stalled" if writes and asked.target.endswith(last_ones) else None

        weather.forecast = stalls_the_last_ones
        async with scene.ledger() as ledger, scene.serving() as dying:
            await scene.admit(acme.message())

            async def job_is_claimed() -> bool:
                return has_claimed_job(dying)

            async def both_hold_segments() -> bool:
                return len(await segment_holders(scene)) == 2

            async def all_but_the_last_are_verified() -> bool:
                job = await ledger.job(JOB)
                return job is not None and job.counts.objects_verified == len(keys) - len(last_ones)

            await until(job_is_claimed)
            async with scene.serving() as surviving:
                await until(both_hold_segments)
                await until(all_but_the_last_are_verified)
                assert len(await segment_holders(scene)) == 2
                await scene.assert_untouched(acme)
                assert not has_claimed_job(surviving)
                await dying.daemon.kill()
                weather.forecast = fair
                weather.stalling.set()
                done = await ledger.until_state(JOB, "completed")
                assert await surviving.daemon.stop() == 0
                assert has_claimed_job(surviving)
    assert done.counts.objects_verified == done.counts.objects_deleted == len(acme.loaded)
    await scene.assert_moved(acme)
    await scene.assert_audit_whole()


def has_claimed_job(served: Served) -> bool:
    return any(line.get("event") == "job_claimed" for line in served.logged())


async def segment_holders(scene: Scene) -> set[str]:
    """Who holds a claim on a segment now."""

    def look() -> set[str]:
        with closing(sqlite3.connect(scene.folder / "ledger.db", timeout=10)) as db:
            rows = db.execute("SELECT DISTINCT holder FROM segments WHERE holder IS NOT NULL")
            return {str(holder) for (holder,) in rows}

    return await asyncio.to_thread(look)
