"""The whole story on stores in memory: what must come out, however the objects go."""

from __future__ import annotations

import pytest

from tests.jobs.conftest import MakeWorld


@pytest.mark.parametrize("server_side", [False, True])
@pytest.mark.parametrize("verify", ["checksums", "read_back"])
async def test_everything_moves_and_nothing_else_changes(
    make_world: MakeWorld, server_side: bool, verify: str
) -> None:
    world = make_world(server_side=server_side)
    objects = world.fill()
    async with world.process() as process:
        job = await process.move(verify=verify)
        await world.assert_moved(process.direct, objects)
        assert job.error is None
        assert job.counts.objects_listed == job.counts.objects_verified == len(objects)
        assert job.counts.objects_deleted == len(objects)
    assert world.metrics.verdicts == ["verified"] * len(objects)
    assert world.metrics.jobs == ["completed"]
