"""A process dies at any call, just before it or just after it took effect; the next one ends the story exactly.

A run without a death counts the calls. Each further run dies at one of them, then a second process takes over; some
of these die as well. With REKEYD_CRASH_POINTS=all every call is tried, otherwise so many as it says, the same each time
unless REKEYD_CRASH_SEED is another.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import get_args

import pytest

from tests.doubles.mortal import DiedError, Life, Moment
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import MEBIBYTE, SOURCE, Data, World

POINTS = os.environ.get("REKEYD_CRASH_POINTS", "8")
SEED = os.environ.get("REKEYD_CRASH_SEED", "0")
AT_ONCE_MAX = 4
MOMENTS: tuple[Moment, ...] = get_args(Moment)


def restless(world: World) -> dict[str, Data]:
    """Fill a source that its writers change before the second look at it; gives what it holds in the end."""
    world.fill(
        {
            "a/kept": Data.of(b"kept", origin="a test"),
            "a/overwritten": Data(b"first"),
            "b/removed": Data(b"removed"),
            "c/6 MiB": Data(b"6" * (6 * MEBIBYTE)),
        }
    )
    final = {
        "a/kept": Data.of(b"kept", origin="a test"),
        "a/overwritten": Data(b"second, and longer"),
        "c/6 MiB": Data(b"6" * (6 * MEBIBYTE)),
        "d/added": Data(b"added"),
    }

    def change() -> None:
        world.remove("b/removed")
        world.put("a/overwritten", final["a/overwritten"])
        world.put("d/added", final["d/added"])

    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(change)
    return final


async def live_once(world: World, life: Life, name: str, final: dict[str, Data] | None = None) -> None:
    """A process that works until it dies, or until the job is done, which must then have moved `final`."""
    async with world.process(name, life) as process:
        try:
            if not await world.known(process.direct):
                await world.admit(process.direct)
            await process.work(seconds_max=40)
            if final is not None:
                await world.assert_moved(process.direct, final)
        except* DiedError:
            assert life.dead
    await world.expire_leases()
    await world.make_due()


async def lived_through(world: World, *deaths: tuple[int, Moment]) -> None:
    final = restless(world)
    for at, moment in deaths:
        await live_once(world, Life(at, moment), f"daemon-{at}-{moment}")
    await live_once(world, Life(), "the last one", final)


async def all_calls(world: World) -> list[str]:
    """The calls of a life without accidents."""
    life = Life()
    await live_once(world, life, "daemon-1", restless(world))
    return life.calls


def points(calls: int, rng: random.Random) -> list[tuple[int, Moment]]:
    """Some deaths, spread over the whole story; or every one."""
    every = [(at, moment) for at in range(1, calls + 1) for moment in MOMENTS]
    if POINTS == "all":
        return every
    wanted = min(int(POINTS), calls)
    spread = [1 + index * calls // wanted + rng.randrange(calls // wanted) for index in range(wanted)]
    return [(at, rng.choice(MOMENTS)) for at in spread]


async def try_all(make_world: MakeWorld, server_side: bool, deaths: list[list[tuple[int, Moment]]]) -> None:
    failed: list[str] = []
    waiting = iter(deaths)

    async def work() -> None:
        for each in waiting:
            world = make_world(server_side=server_side)
            try:
                await lived_through(world, *each)
            except Exception as error:  # noqa: BLE001 - all that go wrong are shown together
                failed.append(f"{each}: {type(error).__name__} {error}")

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE_MAX):
            group.create_task(work())
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
async def test_a_death_at_any_call_costs_nothing(make_world: MakeWorld, server_side: bool) -> None:
    calls = len(await all_calls(make_world(server_side=server_side)))
    rng = random.Random(f"one death {server_side} {SEED}")
    await try_all(make_world, server_side, [[each] for each in points(calls, rng)])


async def test_who_takes_over_may_die_too(make_world: MakeWorld) -> None:
    calls = len(await all_calls(make_world()))
    rng = random.Random(f"three deaths {SEED}")
    firsts = points(calls, rng)
    deaths = [[first, *(rng.choice(firsts) for _ in range(2))] for first in firsts[::2]]
    await try_all(make_world, False, deaths)
