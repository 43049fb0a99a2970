"""Retries, pace and meter: decisions by themselves, then the whole stack over a store with a script."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.domain.errors import (
    ClaimLostError,
    InterruptedTransferError,
    KeyUnusableError,
    NotFoundError,
    PreconditionError,
    StoreError,
    ThrottledError,
    UnavailableError,
)
from rekeyd.domain.objects import Attributes, ObjectVersion
from rekeyd.stores.buckets import BucketControl
from rekeyd.stores.content import BytesContent, ReadContent
from rekeyd.stores.guarded import Guards, PacePolicy, RetryPolicy
from rekeyd.stores.guarded.around import GuardedControl, GuardedStore
from rekeyd.stores.guarded.metering import outcome_of
from rekeyd.stores.guarded.pacing import AdaptiveLimit
from rekeyd.stores.guarded.retrying import next_wait_seconds
from rekeyd.stores.memory import MemoryControl, MemoryStore, Shelf
from rekeyd.stores.port import IfAbsent, ObjectStore, ObjectStream, Written
from tests.doubles.claim import Claim
from tests.patience import HANG_SECONDS

POLICY = RetryPolicy(attempts_max=4, first_wait_seconds=1, wait_seconds_max=5, retry_after_seconds_max=30)


@dataclass
class Meter:
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def observe(self, store: str, operation: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((store, operation, outcome))

    def of(self, operation: str) -> list[str]:
        return [outcome for _, name, outcome in self.seen if name == operation]


class ScriptedStore(MemoryStore):
    """A store whose next puts and reads fail as the script says, some of them after they took effect."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.before: list[StoreError] = []
        self.after: list[StoreError] = []
        self.under_way = 0
        self.most_under_way = 0

    async def put(self, *arguments: Any, **named: Any) -> Written:  # noqa: ANN401 - whatever the port has
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.before:
                named["claim"].call_deadline()
                raise self.before.pop(0)
            written = await super().put(*arguments, **named)
            if self.after:
                raise self.after.pop(0)
            return written
        finally:
            self.under_way -= 1


@dataclass
class Stage:
    inner: ScriptedStore
    store: ObjectStore
    guards: Guards
    meter: Meter
    waits: list[float]
    claim: Claim

    async def put(self, key: str = "k", data: bytes = b"data") -> Written:
        return await self.store.put(
            "bucket",
            key,
            BytesContent(data),
            Attributes(),
            condition=IfAbsent(),
            under=None,
            crc64nvme=None,
            claim=self.claim,
        )


def stage(pace: PacePolicy | None = None, retry: RetryPolicy = POLICY) -> Stage:
    shelf = Shelf()
    shelf.make_bucket("bucket")
    inner, meter, waits = ScriptedStore(shelf), Meter(), list[float]()

    async def sleep(seconds: float) -> None:
        assert inner.under_way == 0 or pace is not None, "nothing is held while backing off"
        waits.append(seconds)
        await asyncio.sleep(0)

    guards = Guards.of(
        "s3",
        meter,
        clock=lambda: asyncio.get_running_loop().time(),
        jitter=lambda: 0.5,
        sleep=sleep,
        retry=retry,
        pace=pace or PacePolicy(),
    )
    return Stage(inner, guards.store(inner), guards, meter, waits, Claim())


# --- decisions ---


@pytest.mark.parametrize(
    ("error", "attempt", "jitter", "wait"),
    [
        (UnavailableError("put", ""), 1, 0.5, 0.5),
        (UnavailableError("put", ""), 2, 0.5, 1.0),
        (UnavailableError("put", ""), 3, 0.5, 2.0),
        (UnavailableError("put", ""), 3, 0.0, 0.0),
        (UnavailableError("put", ""), 4, 0.5, None),
        (PreconditionError("put", ""), 1, 0.5, None),
        (NotFoundError("put", ""), 1, 0.5, None),
        (KeyUnusableError("put", ""), 1, 0.5, None),
    ],
)
def test_how_long_is_waited(error: StoreError, attempt: int, jitter: float, wait: float | None) -> None:
    assert next_wait_seconds(POLICY, error, attempt, jitter) == wait


def test_what_the_store_asks_for_is_honoured_up_to_a_bound() -> None:
    error = ThrottledError("put", "")
    for asked, wait in ((2.0, 2.0), (0.1, 0.5), (3600.0, 30.0)):
        error.retry_after_seconds = asked
        assert next_wait_seconds(POLICY, error, 1, 0.5) == wait


@given(attempt=st.integers(1, 3), jitter=st.floats(0, 1, exclude_max=True))
def test_a_wait_is_bounded(attempt: int, jitter: float) -> None:
    wait = next_wait_seconds(POLICY, UnavailableError("put", ""), attempt, jitter)
    assert wait is not None
    assert 0 <= wait <= POLICY.wait_seconds_max


def test_a_limit_falls_at_once_and_rises_slowly() -> None:
    now = [0.0]
    limit = AdaptiveLimit(64, PacePolicy(lowered_again_after_seconds=1.0), lambda: now[0])

    for _ in range(10):
        limit.slow_down()
    assert limit.permits == 32, "calls that failed together count once"
    now[0] = 1.0
    limit.slow_down()
    assert limit.permits == 16
    for _ in range(17):
        limit.went_well()
    assert limit.permits == 17
    for _ in range(100_000):
        limit.went_well()
    assert limit.permits == 64


def test_a_limit_never_falls_to_nothing() -> None:
    now = [0.0]
    limit = AdaptiveLimit(4, PacePolicy(lowered_again_after_seconds=1.0), lambda: now[0])
    for _ in range(10):
        now[0] += 1.0
        limit.slow_down()
    assert limit.permits == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ThrottledError("put", ""), "throttled"),
        (UnavailableError("put", ""), "unavailable"),
        (ClaimLostError("gone"), "claim_lost"),
        (asyncio.CancelledError(), "abandoned"),
        (AssertionError(), "error"),
    ],
)
def test_each_error_has_a_word(error: BaseException, outcome: str) -> None:
    assert outcome_of(error) == outcome


# --- the whole interface ---


@pytest.mark.parametrize(("port", "guarded"), [(ObjectStore, GuardedStore), (BucketControl, GuardedControl)])
def test_no_method_of_the_port_is_left_out(port: type, guarded: type) -> None:
    for name, method in inspect.getmembers(port, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(guarded, name)) == inspect.signature(method), name


# --- retries ---


async def test_what_fails_in_passing_is_repeated() -> None:
    on = stage()
    on.inner.before = [
        ThrottledError("put", ""),
        UnavailableError("put", ""),
        InterruptedTransferError("put", ""),
    ]

    await on.put()

    assert on.waits == [0.5, 1.0, 2.0]
    assert on.meter.of("put") == ["throttled", "unavailable", "interrupted", "ok"]


async def test_repeating_ends() -> None:
    on = stage()
    on.inner.before = [UnavailableError("put", "") for _ in range(10)]

    with pytest.raises(UnavailableError):
        await on.put()

    assert len(on.inner.before) == 6


async def test_what_would_fail_again_is_not_repeated() -> None:
    on = stage()
    on.inner.before = [KeyUnusableError("put", "")]

    with pytest.raises(KeyUnusableError) as error:
        await on.put()

    assert on.waits == []
    assert not error.value.after_unknown


async def test_our_own_earlier_write_is_told_from_somebody_elses() -> None:
    on = stage()
    on.inner.after = [UnavailableError("put", "the answer was lost")]

    with pytest.raises(PreconditionError) as error:
        await on.put()

    assert error.value.after_unknown, "the first attempt may have been it: look"
    assert (await on.store.head("bucket", "k")).version.size_bytes == 4


async def test_a_precondition_without_an_unknown_attempt_is_what_it_seems() -> None:
    on = stage()
    await on.put()
    on.inner.before = [ThrottledError("put", "")]

    with pytest.raises(PreconditionError) as error:
        await on.put()

    assert not error.value.after_unknown


async def test_nothing_is_repeated_once_the_claim_is_lost() -> None:
    on = stage()
    on.claim = Claim(asked_max=1)
    on.inner.before = [UnavailableError("put", "")]

    with pytest.raises(ClaimLostError):
        await on.put()

    assert on.meter.of("put") == ["unavailable", "claim_lost"]


async def test_a_repeated_put_opens_its_content_anew() -> None:
    on = stage()
    await on.put("source", b"x" * 200_000)
    content = ReadContent(on.store, "bucket", (await on.store.head("bucket", "source")).version)
    on.inner.before = [UnavailableError("put", "")]
    on.inner.after = []

    await on.store.put(
        "bucket",
        "target",
        content,
        Attributes(),
        condition=IfAbsent(),
        under=None,
        crc64nvme=None,
        claim=on.claim,
    )

    assert (await on.store.head("bucket", "target")).version.size_bytes == 200_000
    assert on.meter.of("read") == ["ok"]


async def test_buckets_are_guarded_alike() -> None:
    on = stage()

    class Failing(MemoryControl):
        failures = 2

        async def describe(self, bucket: str) -> None:
            if self.failures:
                self.failures -= 1
                raise ThrottledError("describe", "")

    assert await on.guards.control(Failing(Shelf())).describe("bucket") is None
    assert on.meter.of("describe_bucket") == ["throttled", "throttled", "ok"]


# --- pace ---


async def test_no_more_than_allowed_are_under_way() -> None:
    on = stage(PacePolicy(writes_max=3))

    await asyncio.gather(*(on.put(f"{number}") for number in range(50)))

    assert on.inner.most_under_way == 3


async def test_a_store_that_asks_for_it_gets_fewer_calls() -> None:
    on = stage(PacePolicy(writes_max=16), RetryPolicy(attempts_max=3))
    on.inner.before = [ThrottledError("put", "") for _ in range(16)]

    await asyncio.gather(*(on.put(f"{number}") for number in range(40)))

    assert 8 <= on.guards.pace.permits()["write"] < 16
    assert on.guards.pace.permits()["read"] == 64


async def test_writes_fed_by_reads_do_not_wait_in_a_circle() -> None:
    on = stage(PacePolicy(reads_max=2, writes_max=2))
    await on.put("source", b"x" * 500_000)
    version = (await on.store.head("bucket", "source")).version

    async def carry(number: int) -> None:
        await on.store.put(
            "bucket",
            f"{number}",
            ReadContent(on.store, "bucket", version),
            Attributes(),
            condition=IfAbsent(),
            under=None,
            crc64nvme=None,
            claim=on.claim,
        )

    async with asyncio.timeout(HANG_SECONDS):
        await asyncio.gather(*(carry(number) for number in range(30)))


async def test_a_cancelled_waiter_gives_its_turn_on() -> None:
    limit = AdaptiveLimit(1, PacePolicy(), lambda: 0.0)
    order: list[int] = []

    async def work(number: int) -> None:
        async with limit.permit():
            order.append(number)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(work(number)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 2, 3]
    async with asyncio.timeout(HANG_SECONDS), limit.permit():
        pass


async def test_one_cancelled_as_it_is_granted_gives_its_turn_on() -> None:
    limit = AdaptiveLimit(1, PacePolicy(), lambda: 0.0)
    begun = asyncio.Event()

    async def hold() -> None:
        async with limit.permit():
            begun.set()
            await asyncio.sleep(3600)

    holder = asyncio.create_task(hold())
    await begun.wait()
    waiter = asyncio.create_task(hold())
    await asyncio.sleep(0)
    holder.cancel()
    await asyncio.gather(holder, return_exceptions=True)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    async with asyncio.timeout(HANG_SECONDS), limit.permit():
        pass


async def test_waiters_cancelled_together_with_who_holds_are_just_cancelled() -> None:
    limit = AdaptiveLimit(1, PacePolicy(), lambda: 0.0)

    async def hold() -> None:
        async with limit.permit():
            await asyncio.sleep(3600)

    tasks = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ended] == [asyncio.CancelledError] * 3
    async with asyncio.timeout(HANG_SECONDS), limit.permit():
        pass


# --- meter ---


async def test_how_a_read_ended_is_the_stores_doing_only() -> None:
    on = stage()
    await on.put("k", b"x" * 200_000)
    version = (await on.store.head("bucket", "k")).version

    async with on.store.read("bucket", version) as stream:
        assert sum([len(chunk) async for chunk in stream.chunks()]) == 200_000
    async with on.store.read("bucket", version) as stream:
        async for _ in stream.chunks():
            break
    with pytest.raises(ThrottledError):
        async with on.store.read("bucket", version):
            raise ThrottledError("put", "the other store's")
    with pytest.raises(PreconditionError):
        async with on.store.read("bucket", ObjectVersion("k", 1, "other")):
            pass

    assert on.meter.of("read") == ["ok", "abandoned", "abandoned", "precondition_failed"]
    assert on.guards.pace.permits()["read"] == 64


async def test_a_read_that_breaks_off_is_told() -> None:
    on = stage()
    await on.put()
    version = (await on.store.head("bucket", "k")).version

    class Broken:
        def __init__(self, stream: ObjectStream) -> None:
            self.head = stream.head

        async def chunks(self) -> AsyncGenerator[bytes]:
            yield b"d"
            raise InterruptedTransferError("read", "cut")

    @asynccontextmanager
    async def breaking(*_: object) -> AsyncIterator[ObjectStream]:
        async with MemoryStore.read(on.inner, "bucket", version) as stream:
            yield Broken(stream)

    on.inner.read = breaking  # type: ignore[method-assign, assignment]
    async with on.store.read("bucket", version) as stream:
        chunks = stream.chunks()
        assert await anext(chunks) == b"d"
        with pytest.raises(InterruptedTransferError):
            await anext(chunks)

    assert on.meter.of("read") == ["interrupted"]


async def test_every_attempt_is_told_of_the_right_store() -> None:
    on = stage()
    await on.put()
    await on.store.list_page("bucket", "")

    assert on.meter.seen == [("s3", "put", "ok"), ("s3", "list_page", "ok")]
