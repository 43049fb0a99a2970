"""A write to one store that is fed by a read from another: whose error it is decides who slows down and is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from rekeyd.domain.errors import InterruptedTransferError, StoreError, ThrottledError
from rekeyd.domain.objects import Attributes, ObjectVersion
from rekeyd.stores.content import BytesContent, ReadContent
from rekeyd.stores.guarded import Guards, RetryPolicy
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.port import Content, IfAbsent, ObjectStore
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.signing import Credentials
from rekeyd.stores.s3.store import open_s3_store
from tests.doubles.claim import Claim
from tests.doubles.faulty import FaultyStore, Script
from tests.doubles.front import Front, Reply

SIZE_BYTES = 100_000
THROTTLED = Reply(503, {"x-amz-request-id": "R1"}, b"<Error><Code>SlowDown</Code></Error>")
GIVEN = Reply(200, {"etag": '"abc"'}, b"x" * SIZE_BYTES)
TAKEN = Reply(200, {"etag": '"def"'})


class StaticCredentials:
    async def get_frozen_credentials(self) -> Credentials:
        return Credentials("AKID", "secret")


@dataclass
class Counted:
    """What a meter was told, by store."""

    seen: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def observe(self, store: str, operation: str, outcome: str, seconds: float) -> None:
        self.seen.setdefault(store, []).append((operation, outcome))


@dataclass
class Ends:
    """A source and a target, each with guards of its own, told apart by one meter. Nothing is repeated."""

    counted: Counted = field(default_factory=Counted)
    claim: Claim = field(default_factory=Claim)

    def guards(self, store: str) -> Guards:
        return Guards.of(
            store,
            self.counted,
            clock=time.monotonic,
            jitter=lambda: 0.0,
            sleep=asyncio.sleep,
            retry=RetryPolicy(attempts_max=1),
        )

    async def part(self, target: ObjectStore, content: Content) -> object:
        upload = await target.begin_upload("byok", "k", Attributes(), under=None, claim=self.claim)
        return await target.put_part(upload, 1, content, claim=self.claim)


def lowered(guards: Guards) -> set[str]:
    return {lane for lane, permits in guards.pace.permits().items() if permits < 64}


@asynccontextmanager
async def s3(name: str, front: Front) -> AsyncIterator[ObjectStore]:
    config = S3Config(name, "us-east-1", front.endpoint_url)
    async with open_s3_store(config, StaticCredentials(), now=time.time) as store:
        yield store


@pytest.mark.parametrize("throttles", ["source", "target"])
async def test_only_the_store_that_throttles_slows_down_and_is_counted(throttles: str) -> None:
    ends = Ends()
    sources, targets = ends.guards("source"), ends.guards("target")
    async with (
        Front.started() as given,
        Front.started() as taking,
        s3("source", given) as source,
        s3("target", taking) as target,
    ):
        given.will(THROTTLED if throttles == "source" else GIVEN)
        begun = Reply(
            200, {}, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        )
        taking.will(begun, THROTTLED if throttles == "target" else TAKEN)
        content = ReadContent(sources.store(source), "shared", ObjectVersion("k", SIZE_BYTES, "abc"))
        with pytest.raises(ThrottledError) as error:
            await ends.part(targets.store(target), content)

    assert error.value.store == throttles
    (_, put) = ends.counted.seen["target"]
    (read,) = ends.counted.seen["source"]
    if throttles == "source":
        assert (put, read) == (("put_part", "abandoned"), ("read", "throttled"))
        assert (lowered(targets), lowered(sources)) == (set(), {"read"})
    else:
        assert put == ("put_part", "throttled")
        assert read[1] in {"ok", "abandoned"}
        assert (lowered(targets), lowered(sources)) == ({"write"}, set())


@pytest.mark.parametrize("kind", [ThrottledError, InterruptedTransferError])
async def test_within_one_store_an_error_is_counted_once(kind: type[StoreError]) -> None:
    ends, script, shelf = Ends(), Script(), Shelf()
    for bucket in ("shared", "byok"):
        shelf.make_bucket(bucket)
    guards = ends.guards("s3")
    store = guards.store(FaultyStore(MemoryStore(shelf), script))
    await store.put(
        "shared",
        "k",
        BytesContent(b"data"),
        Attributes(),
        condition=IfAbsent(),
        under=None,
        crc64nvme=None,
        claim=ends.claim,
    )
    version = (await store.head("shared", "k")).version
    script.on("read").fails(kind)

    with pytest.raises(kind):
        await ends.part(store, ReadContent(store, "shared", version))

    outcomes = [outcome for _, outcome in ends.counted.seen["s3"] if outcome != "ok"]
    assert sorted(outcomes) == ["abandoned", "throttled" if kind is ThrottledError else "interrupted"]


async def test_a_content_that_is_not_what_it_announced_is_not_the_sources_error() -> None:
    ends, shelf = Ends(), Shelf()
    shelf.make_bucket("byok")

    class Short(BytesContent):
        @property
        def size_bytes(self) -> int:
            return 10

    with pytest.raises(InterruptedTransferError) as error:
        await ends.part(ends.guards("target").store(MemoryStore(shelf)), Short(b"data"))

    assert error.value.store == "target"
    assert ends.counted.seen["target"][-1] == ("put_part", "interrupted")
