"""The ledger compared with the targets as a daemon starts, also where no job has anything to do."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from rekeyd.domain.control import CONTROL_KEY
from rekeyd.domain.errors import AccessDeniedError, DistrustedError, KeyUnusableError, UnavailableError
from rekeyd.jobs.comparison import Comparison, check_unknown
from tests.jobs.test_control import back_up, control_of, put_control, record_of, restore
from tests.jobs.world import TARGET_BUCKET, TENANT, Process, World, eventually


async def compare(process: Process) -> Comparison:
    comparison = Comparison(process.tools, "daemon-1")
    await comparison.run()
    return comparison


async def moved_and_restored(world: World, backup: Path) -> None:
    """A tenant moves after its first job was cancelled, and the ledger knows of that one only."""
    world.fill()
    async with world.process() as process:
        await world.admit(process.direct, "cancelled")
        await process.direct.cancel_job("cancelled", "an operator")
    back_up(world, backup)
    async with world.process() as process:
        await world.admit(process.direct)
        await process.work()
    back_up(world, backup.with_suffix(".newest"))
    restore(world, backup)


async def test_a_ledger_that_has_nothing_to_do_is_found_to_be_older_than_a_target(
    world: World, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    await moved_and_restored(world, backup)
    async with world.process() as process:
        assert (await record_of(process)).distrusted is None

        comparison = await compare(process)

        assert comparison.complete
        distrusted = (await record_of(process)).distrusted
        assert distrusted is not None
        assert CONTROL_KEY in distrusted
        await compare(process)
        (recorded,) = await world.records(process.direct, "placement.distrusted")
        assert (recorded["tenant"], recorded["actor"], recorded.get("job")) == (TENANT, "daemon-1", None)

    # A person brings back a ledger that knows the move.
    restore(world, backup.with_suffix(".newest"))
    async with world.process() as process:
        await process.direct.distrust_tenant(TENANT, "it was copied while it was distrusted", "an operator")
        await compare(process)
        assert (await record_of(process)).distrusted is None


async def test_a_ledger_that_knows_its_targets_is_as_it_was(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        before, actions = await record_of(process), await world.actions(process.direct)
        await compare(process)
        assert await record_of(process) == before
        assert await world.actions(process.direct) == actions


@pytest.mark.parametrize("content", [b"{}", None], ids=["not a control object", "gone"])
async def test_what_is_for_a_person_to_look_at_neither_stops_nor_serves_a_placement_anew(
    world: World, content: bytes | None
) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        if content is None:
            del world.target_shelf.buckets[TARGET_BUCKET].objects[CONTROL_KEY]
        else:
            put_control(world, content)
        await process.direct.distrust_tenant(TENANT, "why", "an operator")
        await compare(process)
        assert (await record_of(process)).distrusted == "why"


async def test_a_target_that_says_nothing_is_asked_again_and_again(world: World, tmp_path: Path) -> None:
    await moved_and_restored(world, tmp_path / "backup.db")
    world.timings = replace(world.timings, held_recheck_seconds=0.01)
    away = world.script.on("head", bucket=TARGET_BUCKET, key=CONTROL_KEY, times=7).fails(UnavailableError)
    async with world.process() as process:
        comparison = Comparison(process.tools, "daemon-1")
        comparing = asyncio.create_task(comparison.run())

        async def looked_at() -> bool:
            return comparison.complete

        await eventually(looked_at)
        await comparing
        assert away.applied == 7
        assert (await record_of(process)).distrusted is not None


async def test_what_another_daemon_writes_meanwhile_is_known_at_a_second_look(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        newest = json.dumps(control_of(world)).encode()
        # As if the first look had come just before the last control object was written.
        put_control(world, json.dumps(control_of(world) | {"epoch": 1, "phase": "paused"}).encode())
        world.script.on("read", bucket=TARGET_BUCKET, key=CONTROL_KEY).then(
            lambda: put_control(world, newest)
        )
        await compare(process)
        assert (await record_of(process)).distrusted is None


async def test_a_tenant_unknown_to_the_ledger_whose_target_knows_it_is_not_served(world: World) -> None:
    world.fill()
    async with world.process() as process:
        objects = process.tools.stores[world.target.store].objects
        await check_unknown(objects, TENANT, world.target)
        await process.move()
        world.disable_key()
        with pytest.raises(DistrustedError, match="older than the target"):
            await check_unknown(objects, TENANT, world.target)


@pytest.mark.parametrize(
    ("error", "served"), [(AccessDeniedError, True), (UnavailableError, False), (KeyUnusableError, False)]
)
async def test_a_bucket_that_refuses_us_is_none_of_ours_and_silence_is_no_answer(
    world: World, error: type[AccessDeniedError | UnavailableError | KeyUnusableError], served: bool
) -> None:
    world.script.on("head", bucket=TARGET_BUCKET, times=3).fails(error)
    async with world.process() as process:
        objects = process.tools.stores[world.target.store].objects
        if served:
            await check_unknown(objects, TENANT, world.target)
        else:
            with pytest.raises(error):
                await check_unknown(objects, TENANT, world.target)
