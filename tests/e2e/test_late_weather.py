"""Answers are lost, requests come late or twice, while writers go on: what they were told is what is there."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.doubles.weather import Fault, Weather, foul
from tests.e2e.harness import Scene, large_items, small_items
from tests.e2e.test_kills import JOB
from tests.e2e.test_writers import WRITE_SECONDS_MAX, BackupService

pytestmark = pytest.mark.asyncio(loop_scope="session")

LATE: tuple[Fault, ...] = ("delayed", "repeated", "repeated", "reset_unanswered")
CHANGES = (
    "PutObject",
    "CopyObject",
    "CompleteMultipartUpload",
    "DeleteObjects",
    "DeleteObject",
    "UploadPart",
)


@pytest.mark.parametrize("target_store", ["s3", "s3b"], ids=["server_side", "streaming"])
async def test_lost_late_and_repeated_requests_among_writers(scene: Scene, target_store: str) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            target_store=target_store,
            endpoint=weather.endpoint_url,
            migrate={"write_seconds_max": WRITE_SECONDS_MAX, "pass_objects_small": 10, "passes_max": 3},
        )
        acme = await scene.tenant("acme", [*small_items(60), *large_items(1)])
        weather.forecast = foul(20261125, 0.25, spoils=dict.fromkeys(CHANGES, LATE))
        await scene.admit(acme.message())
        async with scene.ledger() as ledger:
            enough = asyncio.Event()
            # The writers' own way to the store is fair: they know what they were acknowledged.
            service = BackupService(scene, ledger, acme, random.Random(11))
            async with scene.serving(), asyncio.TaskGroup() as group:
                group.create_task(service.work(enough))
                await ledger.until_state(JOB, "completed")
                enough.set()
    assert min(service.written.values()) > 0
    faults = {fault for _, fault in weather.suffered}
    assert faults >= set(LATE)
    assert sum(weather.repeated.values()) > 0
    await scene.assert_holds(acme, acme.loaded)
    assert set(await scene.keys_in(acme.source)) <= service.changed_in_target
    await scene.assert_audit_whole()
