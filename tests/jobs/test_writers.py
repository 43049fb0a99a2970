"""Writers that go on while their tenant is moved: what they were acknowledged is in the target, nothing comes back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rekeyd.domain.objects import Encryption
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.stores.port import ListingPage
from tests.doubles.faulty import Call
from tests.doubles.mortal import DiedError, Life, Moment
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import SOURCE, TARGET_BUCKET, TENANT, Data, World

NAMES = ["a", "b", "b/c", "d"]

CHANGES: Mapping[str, Callable[[World], None]] = {
    "overwritten": lambda world: world.put("overwritten", Data.of(b"another", by="a writer")),
    "grown": lambda world: world.put("grown", Data(b"larger than one request takes" * 40_000)),
    "removed": lambda world: world.remove("removed"),
    "recreated": lambda world: world.put("recreated", Data(b"data")),
    "emptied": lambda world: world.put("emptied", Data(b"")),
}
"""What happens to the object of each name."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("operation", "bucket", "server_side"),
    [
        ("list_page", SOURCE.bucket, False),
        ("read", SOURCE.bucket, False),
        ("put", TARGET_BUCKET, False),
        ("head", TARGET_BUCKET, False),
        ("head", SOURCE.bucket, True),
        ("copy", TARGET_BUCKET, True),
        ("read", TARGET_BUCKET, True),
    ],
)
async def test_a_change_at_any_moment_before_the_pause_is_what_ends_in_the_target(
    make_world: MakeWorld, operation: str, bucket: str, server_side: bool, when: str
) -> None:
    """Between read and put, between head and copy, between copy and verification, beside a listing."""
    world = make_world(server_side=server_side)
    world.fill({name: Data(b"data") for name in CHANGES} | {"kept": Data.of(b"kept", origin="a test")})
    to_come = dict(CHANGES)

    def change(call: Call) -> None:
        names = [name for name in to_come if operation == "list_page" or call.keys[0].endswith(name)]
        for name in names:
            assert not world.writers_stopped
            to_come.pop(name)(world)

    if when == "before":
        world.script.before_each = lambda call: (
            change(call) if (call.operation, call.bucket) == (operation, bucket) else None
        )
    else:
        for name in CHANGES:
            key = SOURCE.prefix if operation == "list_page" else name
            key = SOURCE.prefix + name if operation != "list_page" and bucket == SOURCE.bucket else key
            fault = world.script.on(operation, bucket=bucket, key=key)
            fault.then(partial(change, Call("", operation, bucket, (key,))))
    async with world.process() as process:
        await process.move()
        assert to_come == {}
        expected = world.at_the_pause
        assert expected["grown"].content.startswith(b"larger")
        assert set(expected) == {*CHANGES, "kept"} - {"removed"}
        await world.assert_moved(process.direct, expected)


async def test_what_was_deleted_after_it_was_copied_is_not_in_the_target(world: World) -> None:
    world.fill({name: Data(b"data") for name in NAMES})
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(lambda: world.remove("a"))
    world.script.on("list_page", bucket=SOURCE.bucket, nth=3).first(lambda: world.remove("b/c"))
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, {name: Data(b"data") for name in ("b", "d")})


async def test_a_write_that_is_repeated_after_its_copy_was_swept_stays_away(world: World) -> None:
    """Something between us and the store does that: the write was answered long ago."""
    world.fill({name: Data(b"data") for name in NAMES})

    def repeat() -> None:
        assert set(world.in_target()) == {"b", "b/c", "d"}
        under = Encryption("aws:kms", world.key.arn)
        world.put_into(world.target_shelf, TARGET_BUCKET, "a", Data(b"data"), under)

    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(lambda: world.remove("a"))
    world.script.on("list_page", bucket=SOURCE.bucket, nth=3).first(repeat)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, {name: Data(b"data") for name in NAMES[1:]})


async def test_what_comes_back_under_its_key_is_carried_again(world: World) -> None:
    world.fill({name: Data(b"data") for name in NAMES})
    world.script.on("list_page", bucket=SOURCE.bucket, nth=2).first(lambda: world.remove("a"))
    world.script.on("list_page", bucket=SOURCE.bucket, nth=3).first(lambda: world.put("a", Data(b"again")))
    async with world.process() as process:
        await process.move()
        expected = {"a": Data(b"again")} | {name: Data(b"data") for name in NAMES[1:]}
        await world.assert_moved(process.direct, expected)


async def test_a_pause_that_is_too_short_returns_and_is_tried_again(world: World) -> None:
    world.timings = replace(world.timings, pause_seconds_max=0.5, pause_rest_seconds=0.4)
    world.fill({name: Data(b"data") for name in NAMES})
    phases: list[tuple[str, int]] = []
    times: list[float] = []
    slow = world.script.on("list_page", bucket=SOURCE.bucket, nth=3).waits(2.0)

    async def note(changed: PlacementRecord) -> None:
        phases.append((changed.phase, changed.epoch))
        times.append(asyncio.get_running_loop().time())
        if changed.phase == "shared":
            world.put("e", Data(b"written as soon as it may be"))

    async with world.process() as process:
        for name in ("change_placement", "switch"):
            process.seen_ledger.after[name] = note
        await process.move()
        expected = {name: Data(b"data") for name in NAMES} | {"e": Data(b"written as soon as it may be")}
        await world.assert_moved(process.direct, expected)
    assert slow.applied == 1
    assert phases == [("paused", 1), ("shared", 2), ("paused", 3), ("dedicated", 5)]
    assert times[2] - times[1] >= 0.4, "the writers had their rest"
    assert len(world.metrics.pauses) == 2


async def test_a_pause_lasts_until_the_first_new_write_may_be_made(world: World) -> None:
    """Writers wait out the records that name the source, and those that readers still have after the switch."""
    ttl_seconds, write_seconds_max = 0.5, 0.25
    world.timings = replace(
        world.timings, placement_ttl_seconds=ttl_seconds, write_seconds_max=write_seconds_max
    )
    objects = world.fill({"a": Data(b"data")})
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)
    (paused_seconds,) = world.metrics.pauses
    assert paused_seconds >= 2 * ttl_seconds + write_seconds_max - 0.05, "to within reading a clock twice"


async def test_a_pause_that_is_given_up_lasts_no_longer_than_until_then(world: World) -> None:
    world.timings = replace(world.timings, placement_ttl_seconds=30.0, pause_seconds_max=0.1)
    world.fill({"a": Data(b"data")})
    async with world.process() as process:
        assert (await process.move()).held_reason == "pause_too_short"
    assert max(world.metrics.pauses) < 30.0


async def test_pauses_that_are_always_too_short_hold_the_job_with_the_writers_at_work(world: World) -> None:
    world.timings = replace(world.timings, pause_seconds_max=0.05)
    objects = world.fill({name: Data(b"data") for name in NAMES})

    async def slow_down(changed: PlacementRecord) -> None:
        if changed.phase == "paused":
            world.script.on("list_page", bucket=SOURCE.bucket).waits(0.3)

    async with world.process() as process:
        process.seen_ledger.after["change_placement"] = slow_down
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "pause_too_short")
        record, _ = await process.direct.placement(TENANT)
        assert record is not None
        assert record.phase == "shared"
    assert len(world.metrics.pauses) == 5
    assert set(world.in_source()) == set(objects)


@pytest.mark.parametrize("nth", [2, 3], ids=["while writers go on", "in the pause"])
@pytest.mark.parametrize("page_objects_max", [1000, 2])
async def test_a_listing_that_is_empty_by_error_deletes_nothing(
    world: World, nth: int, page_objects_max: int
) -> None:
    """Answered with success, and with too little: nothing goes from the target, nor is missing in the end."""
    world.script.page_objects_max = page_objects_max
    objects = world.fill({name: Data(b"data") for name in NAMES})
    pages = -(-len(NAMES) // page_objects_max)
    first = 1 + (nth - 1) * pages
    lie = world.script.on("list_page", bucket=SOURCE.bucket, nth=first).answers(
        lambda _: ListingPage((), None)
    )
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)
    assert lie.applied == 1
    assert world.script.count("delete", TARGET_BUCKET) == 0


actions = st.tuples(st.sampled_from(NAMES), st.none() | st.integers(0, 3))
"""An object is deleted (None), or overwritten with so many of the numbers that nothing else has."""
histories = st.dictionaries(st.integers(0, 60), st.lists(actions, min_size=1, max_size=3), max_size=12)
"""What writers do at which call of the worker."""
deaths = st.none() | st.tuples(st.integers(20, 140), st.sampled_from(["before", "after"]))


@settings(max_examples=12, deadline=None, suppress_health_check=[*HealthCheck])
@given(history=histories, death=deaths, server_side=st.booleans())
async def test_whatever_writers_do_the_target_is_what_the_source_was_at_the_pause(
    empty_ledger: Path,
    history: Mapping[int, Sequence[tuple[str, int | None]]],
    death: tuple[int, Moment] | None,
    server_side: bool,
) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        shutil.copy(empty_ledger, path)
        world = World(path, server_side=server_side)
        world.fill({name: Data(b"first") for name in NAMES[:3]})
        serial = 0

        def write(_call: Call) -> None:
            nonlocal serial
            if world.writers_stopped:
                return
            for name, numbers in history.get(len(world.script.calls), ()):
                serial += 1
                if numbers is None:
                    world.remove(name)
                else:
                    world.put(name, Data(str(serial).encode() * numbers))

        world.script.before_each = write
        if death is not None:
            await _live(world, Life(*death))
        await _live(world, Life(), to_the_end=True)


async def _live(world: World, life: Life, *, to_the_end: bool = False) -> None:
    async with world.process(life=life) as process:
        try:
            if not await world.known(process.direct):
                await world.admit(process.direct)
            await process.work()
            if to_the_end:
                await world.assert_moved(process.direct, world.at_the_pause)
        except* DiedError:
            assert not to_the_end
    await world.expire_leases()
    await world.make_due()
