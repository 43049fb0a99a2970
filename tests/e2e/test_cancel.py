"""A cancelled job ends where it stands: nothing is deleted, nothing more is written, and another may take over."""

from __future__ import annotations

import pytest

from rekeyd.demo import proof
from tests.doubles.weather import Weather, fair
from tests.e2e.harness import Scene, mixed_items, small_items
from tests.e2e.middle import FREE, PATIENT, WRITES, stalls_all_but_a_few
from tests.e2e.test_kills import JOB, SLOWLY

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_job_cancelled_amid_copying(scene: Scene) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(endpoint=weather.endpoint_url, target_store="s3b", limits=SLOWLY | PATIENT)
        acme = await scene.tenant("acme", mixed_items())
        other = await scene.tenant("other", small_items(10))
        weather.forecast = stalls_all_but_a_few(acme.target, acme.loaded, WRITES)
        await scene.send(acme.message())
        async with scene.serving() as served, scene.ledger() as ledger:
            await ledger.until_copying(JOB, verified_min=FREE)
            assert (await scene.run_here("cancel", JOB)).status == 0
            await served.until_logged("job_claim_lost")
            written = await scene.snapshot(acme.target)
            assert len(written) < len(acme.loaded)

            # While the daemon works for somebody else, nothing more happens to the cancelled job's objects.
            await scene.admit(other.message())
            await ledger.until_state("other-migrate-1", "completed")
            assert await scene.snapshot(acme.target) == written
            await scene.assert_untouched(acme)
            job = await scene.ask("job", JOB)
            assert (job["state"], job["objects_deleted"]) == ("cancelled", 0)
            placement = await ledger.placement("acme")
            assert placement is not None
            assert placement.phase == "shared"
            assert (await scene.run_here("resume", JOB)).status == 1
            uploads = await proof.no_unfinished_uploads(scene.clients.s3, [acme.target.bucket])
            assert uploads.faults == ()

            weather.forecast = fair
            await scene.admit(acme.message("acme-migrate-2"))
            done = await ledger.until_state("acme-migrate-2", "completed")
            assert done.counts.objects_deleted == len(acme.loaded)
            assert (await scene.ask("job", JOB))["state"] == "cancelled"
        await scene.assert_moved(acme)
        await scene.assert_moved(other)
        await scene.assert_audit_whole()
