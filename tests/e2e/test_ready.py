"""/readyz: a daemon whose queue isn't there works, says that it isn't ready and why, and is once the queue is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.harness import Scene, Served, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def until_ready_is(served: Served, status: int, said: dict[str, Any]) -> None:
    """Until it says this with this status. What it begins with is done one after the other."""

    async def answered() -> bool:
        found, text = await served.telemetry("/readyz")
        return (found, json.loads(text)) == (status, said)

    await until(answered, what=f"/readyz {status} {said}")


async def test_a_daemon_is_ready_once_its_queue_is_there(scene: Scene) -> None:
    await scene.open()
    name = f"{scene.name}-later"
    scene.configure(intake__sqs={"queue_url": f"{scene.queue_url.rpartition('/')[0]}/{name}"})
    async with scene.serving() as served:
        await served.until_logged("intake.waits")
        away = {"ready": False, "not_ready": {"intakes": "not connected: sqs"}}
        await until_ready_is(served, 503, away)
        assert (await served.telemetry("/healthz"))[0] == 200

        await scene.clients.sqs.create_queue(QueueName=name)

        await until_ready_is(served, 200, {"ready": True, "not_ready": {}})
        assert await served.daemon.stop() == 0
