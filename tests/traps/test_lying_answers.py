"""A store that says 200 and means an error, on the real daemon.

| trap that others fell into | must hold here |
|---|---|
| delete after a failed or vanished copy | 200 with an error inside, or HEAD 404 after a copy: the source stays |
"""

from __future__ import annotations

import pytest

from tests.doubles.weather import Asked, Fault, Weather, fair
from tests.e2e.harness import Scene, large_items, small_items
from tests.e2e.test_kills import JOB

pytestmark = pytest.mark.asyncio(loop_scope="session")

WRITES = frozenset({"CopyObject", "CompleteMultipartUpload", "PutObject"})


async def test_delete_after_a_failed_copy(scene: Scene) -> None:
    """Every copy of one small and one large object is answered 200 with an error inside: their sources stay."""
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            endpoint=weather.endpoint_url,
            limits={"request_attempts_max": 2, "object_attempts_max": 2, "backoff_seconds_max": 0.1}
            | {"held_recheck_seconds": 30},
        )
        acme = await scene.tenant("acme", [*small_items(4), *large_items(1)])
        unlucky = {min(acme.loaded), "images/0.img"}

        deletes_in_source: list[str] = []

        def lies(asked: Asked) -> Fault | None:
            if asked.operation.startswith("Delete") and asked.target.startswith(f"/{acme.source.bucket}"):
                deletes_in_source.append(asked.target)
            target = f"/{acme.target.bucket}/"
            mine = asked.target.startswith(target) and any(key in asked.target for key in unlucky)
            return "error_in_200" if mine and asked.operation in WRITES else None

        weather.forecast = lies
        await scene.admit(acme.message())
        async with scene.serving(), scene.ledger() as ledger:
            job = await ledger.until_held(JOB, "store_unavailable", "unverified_objects")
            assert job.counts.objects_verified == len(acme.loaded) - len(unlucky)
            assert job.counts.objects_deleted == 0
            assert not unlucky & set(await scene.keys_in(acme.target))
            assert deletes_in_source == []
            await scene.assert_untouched(acme)

            weather.forecast = fair
            assert (await scene.run_here("resume", JOB)).status == 0
            await ledger.until_state(JOB, "completed")
    assert {operation for operation, _ in weather.suffered} >= {"CompleteMultipartUpload"}
    await scene.assert_moved(acme)
