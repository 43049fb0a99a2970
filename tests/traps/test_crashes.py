"""What others left behind, or did twice, when they died.

| trap that others fell into | must hold here |
|---|---|
| deletes out of order, stale checkpoints | kill at every transition converges |
| orphaned uploads | none after cancel or kill |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import get_args

import pytest

from tests.doubles.faulty import Call, Fault
from tests.doubles.mortal import DiedError, Life, Moment
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_crash import HISTORIES, RESTLESS, Story, all_calls, live_once, try_all
from tests.jobs.world import FINAL, MEBIBYTE, SOURCE, Data, eventually

PHASES = ("preflight", "provision", "copy", "pause", "switch", "grace", "retire", "done")
"""Those of a migration."""

TRANSITIONS = frozenset(
    f"ledger.{name}"
    for name in (
        "enter_phase",
        "begin_job",
        "set_key_state",
        "begin_pass",
        "record_page",
        "record_outcomes",
        "finish_segment",
        "change_placement",
        "switch",
        "plan_retirement",
        "record_intents",
        "finish_job",
    )
)
"""Whatever moves a checkpoint."""


@pytest.mark.parametrize("story", [RESTLESS, HISTORIES], ids=["restless", "histories"])
async def test_stale_checkpoints(make_world: MakeWorld, story: Story) -> None:
    """A process dies right before or right after each transition; the next one ends the story exactly."""
    calls = await all_calls(make_world(versioned=story.versioned), story)
    ats = [number for number, name in enumerate(calls, start=1) if name in TRANSITIONS]
    assert {calls[at - 1] for at in ats} == TRANSITIONS, "the story makes every transition"
    assert sum(calls[at - 1] == "ledger.enter_phase" for at in ats) >= len(PHASES)
    # Of each kind the first and the last one, on one side or the other. REKEYD_CRASH_POINTS=all tries all calls.
    ends = {end for name in TRANSITIONS for end in _first_and_last(calls, name)}
    moments = get_args(Moment)
    deaths: list[list[tuple[int, Moment]]] = [
        [(at, moments[index % 2])] for index, at in enumerate(sorted(ends))
    ]
    await try_all(make_world, story, False, deaths)


def _first_and_last(calls: Sequence[str], name: str) -> tuple[int, int]:
    ats = [number for number, each in enumerate(calls, start=1) if each == name]
    return ats[0], ats[-1]


@pytest.mark.parametrize("moment", get_args(Moment))
async def test_deletes_out_of_order(make_world: MakeWorld, moment: Moment) -> None:
    """Oldest first, the current one last, also where a process died amid them: what is left is the newer part."""
    world = make_world(versioned=True)
    world.put_versions("a", Data(b"1"), Data(b"2"), None, Data(b"3"))
    objects = world.shelf.buckets[SOURCE.bucket].objects
    order = [version.version_id for version in objects.chain(SOURCE.prefix + "a")]
    asked: list[list[str | None]] = []

    def note(call: Call) -> None:
        if (call.operation, call.bucket) == ("delete", SOURCE.bucket):
            asked.append([version.version_id for version in call.versions])

    world.script.before_each = note
    dying = world.script.on("delete", bucket=SOURCE.bucket)
    life = Life()

    async def die_amid(_call: Call) -> None:
        if moment == "before":
            objects.drop(SOURCE.prefix + "a", order[0])
        life.die()

    _at(dying, moment, die_amid)
    await live_once(world, life, "daemon-1")
    left = [version.version_id for version in objects.chain(SOURCE.prefix + "a")]
    assert left == (order[1:] if moment == "before" else [])
    async with world.process("daemon-2") as process:
        await process.work(until=FINAL)
        job = await process.direct.job("job-1")
    assert (job.state, job.counts.objects_deleted) == ("completed", 1)
    assert all(each == order for each in asked)
    assert world.source_chains() == {}
    assert [each and each.content for each in world.target_chains()["a"]] == [b"1", b"2", None, b"3"]


def _at(fault: Fault, moment: Moment, do: Callable[[Call], Awaitable[None]]) -> None:
    if moment == "before":

        async def then_never(call: Call) -> None:
            await do(call)
            raise DiedError("amid the deletes")

        fault.first_await(then_never)
    else:
        fault.then_await(do)


UPLOADING = ["begin_upload", "put_part", "complete_upload"]


@pytest.mark.parametrize("operation", UPLOADING)
@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
async def test_orphaned_uploads_after_a_kill(
    make_world: MakeWorld, operation: str, server_side: bool
) -> None:
    world = make_world(server_side=server_side)
    objects = world.fill({"large": Data(b"6" * (6 * MEBIBYTE)), "small": Data(b"s")})
    name = "copy_part" if server_side and operation == "put_part" else operation
    life = Life()

    async def die(_call: Call) -> None:
        life.die()

    world.script.on(name).then_await(die)
    await live_once(world, life, "daemon-1")
    assert life.dead
    assert world.target_shelf.uploads or operation == "complete_upload", "it left one behind"
    async with world.process("daemon-2") as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, objects)
    assert world.target_shelf.uploads == {}


STORYS = ("renew_job", "current_pass", "refused_segment")
"""The calls by which a job's story learns that its claim was ended."""


@pytest.mark.parametrize("segment_learns_first", [False, True], ids=["job_first", "segment_first"])
@pytest.mark.parametrize("operation", ["put_part", "copy_part", "complete_upload"])
async def test_orphaned_uploads_after_a_cancel(
    make_world: MakeWorld, operation: str, segment_learns_first: bool
) -> None:
    """Cancelled amid a call that doesn't end: nothing unfinished is left, although nobody goes on with the job."""
    world = make_world(server_side=operation == "copy_part")
    world.timings = replace(world.timings, lease_seconds=6.0, call_seconds_max=2.0)
    objects = world.fill({"large": Data(b"6" * (6 * MEBIBYTE))})
    arrived = asyncio.Event()
    world.script.on(operation).hangs(arrived)

    async def others_first() -> None:
        await eventually(a_claim_is_lost)

    async def a_claim_is_lost() -> bool:
        return world.metrics.claims_lost > 0

    async with world.process() as process:
        await world.admit(process.direct)
        async with process.working():
            await arrived.wait()
            assert world.target_shelf.uploads
            for call in STORYS if segment_learns_first else ("renew_segment",):
                process.seen_ledger.before[call] = others_first
            await process.direct.cancel_job("job-1", "an operator")

            async def claims_ended() -> bool:
                return world.metrics.claims_lost > 0 and not await world.claimed()

            await eventually(claims_ended)
        assert (await process.direct.job("job-1")).state == "cancelled"
    assert world.target_shelf.uploads == {}
    assert world.in_source()["large"].content == objects["large"].content
    assert world.script.count("delete", SOURCE.bucket) == 0
