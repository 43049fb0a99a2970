"""A process dies at any call, just before it or just after it took effect; the next one ends the story exactly.

A run without a death counts the calls. Each further run dies at one of them, then a second process takes over; some
of these die as well. With REKEYD_CRASH_POINTS=all every call is tried, otherwise so many as it says, the same each time
unless REKEYD_CRASH_SEED is another.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pytest

from rekeyd.ledger.port import Ledger
from tests.doubles.mortal import DiedError, Life, Moment
from tests.jobs.certified import assert_certified, leaves_of
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_histories import assert_moved as assert_histories_moved
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


@dataclass(frozen=True, slots=True)
class Story:
    """What a source holds, how its writers change it, and how it must end."""

    begin: Callable[[World], Any]
    check: Callable[[World, Ledger, Any], Awaitable[None]]
    versioned: bool = False


async def _moved(world: World, ledger: Ledger, final: dict[str, Data]) -> None:
    await world.assert_moved(ledger, final)
    certificate = await assert_certified(world, ledger)
    assert sorted(leaves_of(world, certificate)) == sorted(final)


async def _histories_moved(world: World, ledger: Ledger, final: dict[str, Sequence[Data | None]]) -> None:
    await assert_histories_moved(world, ledger, final)
    certificate = await assert_certified(world, ledger)
    assert sorted(leaves_of(world, certificate)) == sorted(final)


def _restless_histories(world: World) -> dict[str, Sequence[Data | None]]:
    """Histories that grow, are hidden and lose a version before the second look at them."""
    final: dict[str, Sequence[Data | None]] = {
        "kept": [Data(b"first"), Data(b"second"), None, Data(b"third")],
        "grown": [Data(b"first"), Data(b"6" * (6 * MEBIBYTE))],
        "hidden": [Data(b"first"), None],
        "thinned": [Data(b"first"), Data(b"third")],
    }
    world.put_versions("kept", *final["kept"])
    for name in ("grown", "hidden"):
        world.put_versions(name, Data(b"first"))
    world.put_versions("thinned", Data(b"first"), Data(b"second"), Data(b"third"))

    def change() -> None:
        world.put_versions("grown", final["grown"][1])
        world.put_versions("hidden", None)
        objects = world.shelf.buckets[SOURCE.bucket].objects
        objects.drop(SOURCE.prefix + "thinned", objects.chain(SOURCE.prefix + "thinned")[1].version_id)

    world.script.on("list_versions_page", bucket=SOURCE.bucket, key=SOURCE.prefix, nth=2).first(change)
    return final


RESTLESS = Story(restless, _moved)
HISTORIES = Story(_restless_histories, _histories_moved, versioned=True)


async def live_once(
    world: World, life: Life, name: str, check: Callable[[World, Ledger], Awaitable[None]] | None = None
) -> None:
    """A process that works until it dies, or until the job is done, which must then have ended as it should."""
    async with world.process(name, life) as process:
        try:
            if not await world.known(process.direct):
                await world.admit(process.direct)
            await process.work()
            if check is not None:
                await check(world, process.direct)
        except* DiedError:
            assert life.dead
    await world.expire_leases()
    await world.make_due()


async def lived_through(world: World, story: Story, *deaths: tuple[int, Moment]) -> None:
    final = story.begin(world)
    for at, moment in deaths:
        await live_once(world, Life(at, moment), f"daemon-{at}-{moment}")
    await live_once(world, Life(), "the last one", lambda world, ledger: story.check(world, ledger, final))


async def all_calls(world: World, story: Story) -> list[str]:
    """The calls of a life without accidents."""
    life, final = Life(), story.begin(world)
    await live_once(world, life, "daemon-1", lambda world, ledger: story.check(world, ledger, final))
    return life.calls


def points(calls: int, rng: random.Random) -> list[tuple[int, Moment]]:
    """Some deaths, spread over the whole story; or every one."""
    every = [(at, moment) for at in range(1, calls + 1) for moment in MOMENTS]
    if POINTS == "all":
        return every
    wanted = min(int(POINTS), calls)
    spread = [1 + index * calls // wanted + rng.randrange(calls // wanted) for index in range(wanted)]
    return [(at, rng.choice(MOMENTS)) for at in spread]


async def try_all(
    make_world: MakeWorld, story: Story, server_side: bool, deaths: list[list[tuple[int, Moment]]]
) -> None:
    failed: list[str] = []
    waiting = iter(deaths)

    async def work() -> None:
        for each in waiting:
            world = make_world(server_side=server_side, versioned=story.versioned)
            try:
                await lived_through(world, story, *each)
            except Exception as error:  # noqa: BLE001 - all that go wrong are shown together
                failed.append(f"{each}: {type(error).__name__} {error}")

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE_MAX):
            group.create_task(work())
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
@pytest.mark.parametrize("story", [RESTLESS, HISTORIES], ids=["restless", "histories"])
async def test_a_death_at_any_call_costs_nothing(
    make_world: MakeWorld, story: Story, server_side: bool
) -> None:
    world = make_world(server_side=server_side, versioned=story.versioned)
    calls = len(await all_calls(world, story))
    rng = random.Random(f"one death {server_side} {SEED}")
    await try_all(make_world, story, server_side, [[each] for each in points(calls, rng)])


async def test_who_takes_over_may_die_too(make_world: MakeWorld) -> None:
    calls = len(await all_calls(make_world(), RESTLESS))
    rng = random.Random(f"three deaths {SEED}")
    firsts = points(calls, rng)
    deaths = [[first, *(rng.choice(firsts) for _ in range(2))] for first in firsts[::2]]
    await try_all(make_world, RESTLESS, False, deaths)
