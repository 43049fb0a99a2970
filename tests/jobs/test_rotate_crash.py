"""A process dies at any call of a rotation; the next one ends it exactly, and no writer's object is lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.port import ObjectStore
from tests.doubles.in_place import RefusesSelfCopy
from tests.doubles.mortal import DiedError, Life, Moment
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_crash import AT_ONCE_MAX, SEED, points
from tests.jobs.test_rotate import ROTATE, assert_rotated, moved, overwrite
from tests.jobs.world import MEBIBYTE, TARGET_BUCKET, Data, World

NEWER = Data.of(b"newer", by="a writer")


async def begun(world: World, *, streamed: bool) -> dict[str, Data]:
    """A dedicated tenant whose writers go on while it is rotated; gives what there is in the end."""
    async with world.process("before") as process:
        objects = await moved(
            world,
            process,
            {
                "kept": Data.of(b"kept", origin="a test"),
                "overwritten": Data(b"former"),
                "removed": Data(b"removed"),
                "6 MiB": Data(b"6" * (6 * MEBIBYTE)),
            },
        )

    def make(shelf: Shelf, name: str) -> ObjectStore:
        return (RefusesSelfCopy if streamed else MemoryStore)(shelf, name=name)

    def write() -> None:
        overwrite(world, "overwritten", NEWER)
        overwrite(world, "added", Data(b"added"))
        world.target_shelf.buckets[TARGET_BUCKET].objects.pop("removed", None)

    world.make_store = make
    world.script.on("list_page", bucket=TARGET_BUCKET, nth=1).first(write)
    del objects["removed"]
    return objects | {"overwritten": NEWER, "added": Data(b"added")}


async def live(world: World, life: Life, name: str, final: dict[str, Data] | None = None) -> None:
    """A process that works until it dies, or until the rotation is settled; then it must be as it should."""
    async with world.process(name, life) as process:
        try:
            if not await world.known(process.direct, ROTATE):
                await world.rotate(process.direct)
            await process.work(ROTATE)
            if final is not None:
                await assert_rotated(world, process, final)
        except* DiedError:
            assert life.dead
    await world.expire_leases()
    await world.make_due()


@pytest.mark.parametrize("streamed", [False, True], ids=["copied", "streamed"])
async def test_a_death_at_any_call_of_a_rotation_costs_nothing(
    make_world: MakeWorld, *, streamed: bool
) -> None:
    world, life = make_world(), Life()
    final = await begun(world, streamed=streamed)
    await live(world, life, "daemon-1", final)
    rng = random.Random(f"a death amid a rotation {streamed} {SEED}")
    waiting, failed = iter(points(len(life.calls), rng)), list[str]()

    async def lived_through(at: int, moment: Moment) -> None:
        world = make_world()
        final = await begun(world, streamed=streamed)
        await live(world, Life(at, moment), f"daemon-{at}-{moment}")
        await live(world, Life(), "the last one", final)

    async def work() -> None:
        for at, moment in waiting:
            try:
                await lived_through(at, moment)
            except Exception as error:  # noqa: BLE001 - all that go wrong are shown together
                failed.append(f"{at} {moment}: {type(error).__name__} {error}")

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE_MAX):
            group.create_task(work())
    assert not failed, "\n".join(failed)
