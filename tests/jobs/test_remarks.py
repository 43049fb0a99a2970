"""What a job's message wants remarked: its deadline, and whose it is; and what is counted of its end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from structlog.testing import capture_logs

from rekeyd.domain.errors import StoreRefusedError
from tests.jobs.world import FINAL, Data, World, eventually


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def test_a_deadline_that_passes_amid_the_work_is_remarked_once_and_fails_nothing(world: World) -> None:
    expected = world.fill({"a": Data(b"a")})
    hanging = asyncio.Event()
    world.script.on("put", key="a").hangs(hanging)
    with capture_logs() as logged:

        def remarks() -> int:
            return sum(line["event"] == "job_past_deadline" for line in logged)

        async def remarked() -> bool:
            return remarks() > 0

        async with world.process() as process:
            await world.admit(process.direct, fields={"deadline": soon(0.3)})
            async with process.working() as task:
                await eventually(remarked)
                assert (await process.direct.job("job-1")).state == "running"
                # Nothing else is under way then: a call without an answer would keep its lease.
                await hanging.wait()
                world.disable_key()
                await process.reached(("held",), task=task)
                world.enable_key()
                await world.make_due()
                process.tools.work_came.set()
                await process.reached(FINAL, task=task)
            await world.assert_moved(process.direct, expected)
        assert remarks() == 1
        (said,) = [line for line in logged if line["event"] == "job_past_deadline"]
    assert said["log_level"] == "warning"
    assert sum(line["event"] == "job_claimed" for line in logged) == 2


async def test_a_deadline_that_passed_before_the_claim_is_remarked_at_it(world: World) -> None:
    world.fill()
    with capture_logs() as logged:
        async with world.process() as process:
            await world.admit(process.direct, fields={"deadline": soon(-60)})
            assert (await process.work()).state == "completed"
    assert sum(line["event"] == "job_past_deadline" for line in logged) == 1


async def test_a_deadline_that_is_kept_is_not_remarked(world: World) -> None:
    world.fill()
    with capture_logs() as logged:
        async with world.process() as process:
            await world.admit(process.direct, fields={"deadline": soon(3600)})
            assert (await process.work()).state == "completed"
    assert not [line for line in logged if line["event"] == "job_past_deadline"]


CALLER = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=t61rcWkgMzE",
    "requested_by": "maria",
}


@pytest.mark.parametrize("fields", [CALLER, {}])
async def test_every_record_about_a_job_says_whose_it_is(world: World, fields: dict[str, str]) -> None:
    world.fill()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        async with world.process() as process:
            await world.admit(process.direct, fields=fields)
            assert (await process.work()).state == "completed"
    about = [line for line in logged if line.get("job") == "job-1"]
    assert {line["event"] for line in about} >= {"job_claimed", "pass_done", "switched", "job_attempt_ended"}
    for line in about:
        assert {name: line[name] for name in CALLER if name in line} == fields


async def test_a_segments_records_say_so_too(world: World) -> None:
    world.fill({"a": Data(b"a")})
    world.script.on("put", key="a").fails(StoreRefusedError)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        async with world.process() as process:
            await world.admit(process.direct, fields=CALLER)
            assert (await process.work()).state == "completed"
    (said,) = [line for line in logged if line["event"] == "object_not_verified"]
    assert isinstance(said["segment"], int)
    assert said.items() >= {"job": "job-1", **CALLER}.items()


async def test_a_job_that_is_cancelled_amid_its_work_has_a_duration(world: World) -> None:
    world.timings = replace(world.timings, lease_seconds=2.4, call_seconds_max=0.8)
    world.fill()
    arrived = asyncio.Event()
    world.script.on("put_part").hangs(arrived)
    async with world.process() as process:
        await world.admit(process.direct)
        async with process.working():
            await arrived.wait()
            await process.direct.cancel_job("job-1", "an operator")

            async def observed() -> bool:
                return bool(world.metrics.jobs)

            await eventually(observed)
    assert world.metrics.jobs == ["cancelled"]
