"""What others let grow without a bound.

| trap that others fell into | must hold here |
|---|---|
| SlowDown storms | concurrency falls, retries bounded, others go on |
| memory grows with keys; hang at exit | bounded; SIGTERM drains in time |
"""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections import Counter

import pytest

from rekeyd.domain.errors import ThrottledError
from rekeyd.domain.objects import Attributes, ObjectVersion
from rekeyd.jobs.passes import _list_page
from rekeyd.jobs.run import JobRun
from rekeyd.jobs.worker import Worker
from rekeyd.ledger.port import PassState
from rekeyd.stores.content import BytesContent
from rekeyd.stores.guarded import Guards, PacePolicy, RetryPolicy
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.port import IfAbsent, ListingPage, ObjectStore
from tests.doubles.claim import Claim
from tests.doubles.faulty import FaultyStore, Script
from tests.doubles.weather import Asked, Fault, Weather
from tests.e2e.harness import Scene, small_items
from tests.jobs.world import SOURCE, World

ATTEMPTS_MAX = 4
AT_ONCE_MAX = 32
CALLS = 64


class Crowd:
    """A store under its guards, and how many calls are in it at once."""

    def __init__(self, name: str) -> None:
        self.shelf = Shelf()
        self.shelf.make_bucket("bucket")
        self.script = Script()
        self.inside = 0
        self.most_inside: list[int] = []
        self.seen: Counter[str] = Counter()
        self.guards = Guards.of(
            name,
            self,
            clock=time.monotonic,
            jitter=lambda: 1.0,
            sleep=asyncio.sleep,
            retry=RetryPolicy(attempts_max=ATTEMPTS_MAX, first_wait_seconds=0.01, wait_seconds_max=0.02),
            pace=PacePolicy(writes_max=AT_ONCE_MAX, lowered_again_after_seconds=0.01),
        )
        self.store: ObjectStore = self.guards.store(
            FaultyStore(MemoryStore(self.shelf, name=name), self.script)
        )
        self.script.always("put").first_await(self._arrive)

    async def _arrive(self, _call: object) -> None:
        self.inside += 1
        self.most_inside.append(self.inside)
        await asyncio.sleep(0.002)
        self.inside -= 1

    def observe(self, store: str, operation: str, outcome: str, seconds: float) -> None:
        self.seen[outcome] += 1

    async def put(self, key: str) -> bool:
        try:
            await self.store.put(
                "bucket",
                key,
                BytesContent(b"data"),
                Attributes(),
                condition=IfAbsent(),
                under=None,
                crc64nvme=None,
                claim=Claim(),
            )
        except ThrottledError:
            return False
        return True

    async def put_all(self) -> int:
        """How many went through."""
        return sum(await asyncio.gather(*(self.put(str(number)) for number in range(CALLS))))


async def test_slow_down_storms() -> None:
    stormy, calm = Crowd("stormy"), Crowd("calm")
    stormy.script.always("put").fails(ThrottledError, "SlowDown")
    through, others = await asyncio.gather(stormy.put_all(), calm.put_all())
    assert (through, others) == (0, CALLS)
    # Retries are bounded: each call was sent so often and no more.
    assert stormy.script.count("put") == CALLS * ATTEMPTS_MAX
    assert calm.script.count("put") == CALLS
    # Concurrency has fallen, of that store alone.
    assert max(stormy.most_inside[:AT_ONCE_MAX]) > AT_ONCE_MAX // 2
    assert max(stormy.most_inside[-AT_ONCE_MAX:]) <= 2
    assert stormy.guards.pace.permits()["write"] == 1
    assert calm.guards.pace.permits()["write"] == AT_ONCE_MAX
    # When the storm is over, everything goes through, and the pace recovers.
    stormy.script.clear()
    assert await stormy.put_all() == CALLS
    assert stormy.guards.pace.permits()["write"] > 1


KEYS_A_PAGE = 1000
GROWTH_BYTES_MAX = 1024**2
"""Whatever the number of pages: what SQLite and its driver keep. A page of keys alone is 400 KiB."""


async def test_memory_grows_with_keys(world: World) -> None:
    """A listing of ten times as many keys enters the ledger in no more memory."""
    world.put("a", world.fill()["z"])
    async with world.process() as process:
        await world.admit(process.direct)
        claim = await process.direct.claim_job("daemon-1", 600.0)
        assert claim is not None
        await process.direct.begin_job(claim)
        run = JobRun(
            claim, Worker(process.tools, "w", jobs_max=1, segments_max=1)._kept(_never, 0.0), process.tools
        )
        run.kept._ends_at = float("inf")
        pages = 0

        def page(_: ListingPage) -> ListingPage:
            nonlocal pages
            pages += 1
            versions = [
                ObjectVersion(f"{SOURCE.prefix}{pages:04}/{number:04}", 7, "e" * 32)
                for number in range(KEYS_A_PAGE)
            ]
            return ListingPage(tuple(versions), f"key:{versions[-1].key}")

        world.script.always("list_page", bucket=SOURCE.bucket).answers(page)
        state = await process.direct.begin_pass(claim, None)
        tracemalloc.start()
        try:
            state = await _pages(run, state, 2)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            await _pages(run, state, 2)
            few = tracemalloc.get_traced_memory()[1] - before
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            await _pages(run, await _current(run), 10)
            many = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        counts = (await process.direct.job("job-1")).counts
    assert counts.objects_listed == pages * KEYS_A_PAGE == 14 * KEYS_A_PAGE
    assert many < few + GROWTH_BYTES_MAX, (few, many)


async def _never() -> None:
    return None


async def _current(run: JobRun) -> PassState:
    state = await run.tools.ledger.current_pass(run.claim)
    assert state is not None
    return state


async def _pages(run: JobRun, state: PassState, count: int) -> PassState:
    for _ in range(count):
        listed = await _list_page(run, state)
        assert isinstance(listed, PassState)
        state = listed
    return state


DRAIN_SECONDS_MAX = 1


@pytest.mark.asyncio(loop_scope="session")
async def test_hang_at_exit(scene: Scene) -> None:
    """The store answers nothing any more, whatever it's asked: SIGTERM still ends the daemon in time, with 0."""
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            endpoint=weather.endpoint_url,
            limits={"request_seconds_max": 60, "lease_seconds": 90, "drain_seconds_max": DRAIN_SECONDS_MAX},
        )
        acme = await scene.tenant("acme", small_items(5))
        await scene.admit(acme.message())
        async with scene.serving() as served:

            def silent(asked: Asked) -> Fault | None:
                """From the first of the tenant's copies on: objects are in flight, and never end."""
                copies = asked.operation == "CopyObject" and "2026" in asked.target
                return "stalled" if copies or weather.suffered["CopyObject", "stalled"] else None

            weather.forecast = silent
            await weather.until_suffered("CopyObject", "stalled")
            began = time.monotonic()
            assert await served.daemon.stop() == 0
            assert time.monotonic() - began < DRAIN_SECONDS_MAX + 30, (
                "and what ending takes on a busy machine"
            )
    await scene.assert_untouched(acme)
