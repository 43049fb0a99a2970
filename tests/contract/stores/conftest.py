"""The stores that the suite runs on, and what each of them is known to lack.

A guarantee is stated once. Where a store is declared to lack it, the statement must fail: a store that has
learnt it is noticed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, Protocol

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from moto.server import ThreadedMotoServer

from rekeyd.domain.errors import StoreError
from rekeyd.domain.objects import Attributes, ByteSpan, Encryption, ObjectVersion
from rekeyd.sandbox import Sandbox
from rekeyd.stores.buckets import BucketControl
from rekeyd.stores.content import BytesContent
from rekeyd.stores.memory import MemoryControl, MemoryStore, Shelf
from rekeyd.stores.port import IfAbsent, ObjectStore, UnderKey, Written
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.control import S3BucketControl
from rekeyd.stores.s3.store import open_s3_store
from tests.doubles.claim import Claim

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client as BotoClient

REGION = "us-east-1"
OUTSIDER = AioConfig(
    retries={"total_max_attempts": 1},
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
)

Guarantee = Literal[
    "byte_order",  # a listing is in the order of the keys' bytes
    "conditional_copy",  # CopyObject heeds the condition on the target
    "conditional_complete",  # Complete heeds If-Match
    "pinned_copy",  # a copy heeds the condition on its source
    "checked_put",  # a wrong checksum refuses the object
    "checked_complete",  # a wrong checksum refuses the upload
    "computes_checksum",  # an object that came without a checksum has one
    "stores_checksum",  # a checksum that was sent is told by a head
    "echoes_part_checksum",  # a part's checksum is in its answer
    "part_of_encrypted",  # a part can be made of an encrypted source
    "needs_key",  # nothing is read or written without the key
    "odd_etag",  # an ETag isn't the content's MD5
    "blocks_public_access",
    "enforces_policy",  # what a bucket policy denies is refused
    "polices_uploads",  # the beginning of an upload, too
    "reads_policy_conditions",  # what it doesn't deny isn't refused
    "judges_parts_alone",  # a policy judges a part by its own request, not by its upload's algorithm
    "every_key",  # all keys of S3's are kept as they are
    "reports_upload",  # a head of an absent upload says NoSuchUpload
    "limits_keys",  # a key of over 1,024 bytes is refused
    "unicode_tags",
    "raw_metadata",  # metadata in plain UTF-8 comes back
    "orders_markers",  # a listing shows markers among the versions, where they belong
    "lists_current",  # pages of current objects give all of them where versions are kept
    "lists_odd_keys",  # a listing of versions shows keys that XML can't hold
    "resumes_anywhere",  # a listing of versions goes on after a version that is gone, and after a key alone
    "conditional_versions",  # what is put together of parts heeds its condition where versions are kept
    "unlocked_copy",  # a copy isn't locked because its source is
    "locked_copy",  # a copy can be locked otherwise than its source
    "locked_alike",  # a copy can be locked as its source is
    "timely_locks",  # no lock is taken that is over already
    "locked_upload",  # what is put together of parts can be locked
    "archives",  # what lies in an archive can't be read
    "tags_in_archives",  # its tags can
    "customer_keys",  # what is encrypted with a key that comes with each request isn't read without
    "double_encryption",
    "names_requests",  # an answer to a deletion has the request's name
]

LACKS: dict[str, frozenset[Guarantee]] = {
    "memory": frozenset({"enforces_policy"}),
    "seaweedfs": frozenset(
        {
            *("byte_order", "part_of_encrypted", "odd_etag", "blocks_public_access", "every_key"),
            *("computes_checksum", "judges_parts_alone", "lists_current", "lists_odd_keys"),
            *("unlocked_copy", "locked_copy", "archives", "double_encryption"),
        }
    ),
    "moto": frozenset(
        {
            "conditional_copy",
            "conditional_complete",
            "polices_uploads",
            "reads_policy_conditions",
            "judges_parts_alone",
            "pinned_copy",
            "checked_put",
            "checked_complete",
            "computes_checksum",
            "stores_checksum",
            "echoes_part_checksum",
            "needs_key",
            "odd_etag",
            "every_key",
            "limits_keys",
            "unicode_tags",
            "reports_upload",
            *("orders_markers", "lists_odd_keys", "resumes_anywhere", "conditional_versions"),
            *("locked_copy", "locked_alike", "locked_upload", "timely_locks"),
            *("tags_in_archives", "customer_keys", "names_requests"),
        }
    ),
}


class PutBySdk(Protocol):
    """Puts what rekeyd itself never would. Takes the SDK's own words."""

    async def __call__(self, bucket: str, key: str, data: bytes, **about: str) -> None: ...


@dataclass
class Stand:
    """A store under test, with a bucket and a prefix of the test's own."""

    kind: str
    store: ObjectStore
    control: BucketControl
    bucket: str
    prefix: str
    key_arn: str
    disable_key: Callable[[], Awaitable[None]]
    enable_key: Callable[[], Awaitable[None]]
    put_by_sdk: PutBySdk
    claim: Claim = field(default_factory=Claim)
    outsider: Callable[[], AbstractAsyncContextManager[BotoClient]] | None = None
    """Somebody else who writes there, with a client of his own."""

    @property
    def under(self) -> UnderKey:
        return UnderKey(self.key_arn)

    @contextmanager
    def guarantees(self, guarantee: Guarantee) -> Iterator[None]:
        """What happens within holds, or fails where the store is declared to lack it."""
        lacking = guarantee in LACKS[self.kind]
        try:
            yield
        except (AssertionError, StoreError, pytest.fail.Exception):
            if not lacking:
                raise
        else:
            if lacking:
                pytest.fail(f"{self.kind} has learnt {guarantee!r}: take it from the list of what it lacks")

    async def put(self, name: str, data: bytes = b"data", **about: object) -> Written:
        arguments: dict[str, object] = {
            "attributes": Attributes(),
            "condition": IfAbsent(),
            "under": None,
            "crc64nvme": None,
            "claim": self.claim,
            **about,
        }
        attributes = arguments.pop("attributes")
        return await self.store.put(
            self.bucket,
            self.prefix + name,
            BytesContent(data),
            attributes,  # type: ignore[arg-type]
            **arguments,  # type: ignore[arg-type]
        )

    async def version(self, name: str) -> ObjectVersion:
        return (await self.store.head(self.bucket, self.prefix + name)).version

    async def content(self, version: ObjectVersion, span: ByteSpan | None = None) -> bytes:
        async with self.store.read(self.bucket, version, span) as stream:
            return b"".join([chunk async for chunk in stream.chunks()])

    async def listed(self, below: str = "", limit: int = 1000) -> list[ObjectVersion]:
        found: list[ObjectVersion] = []
        after = None
        for _ in range(1000):
            page = await self.store.list_page(self.bucket, self.prefix + below, after=after, limit=limit)
            found += page.objects
            after = page.resume_after
            if after is None:
                return found
        raise AssertionError("a listing without an end")

    async def histories(self, below: str = "", limit: int = 1000) -> list[ObjectVersion]:
        """All of them, without their times."""
        found: list[ObjectVersion] = []
        after = None
        for _ in range(3000):
            page = await self.store.list_versions_page(
                self.bucket, self.prefix + below, after=after, limit=limit
            )
            found += page.histories
            after = page.resume_after
            if after is None:
                return [untimed(one) for one in found]
        raise AssertionError("a listing without an end")

    async def history(self, name: str) -> tuple[ObjectVersion, ...]:
        """A key's, the oldest first; empty where there is none."""
        found = [one for one in await self.histories(name) if one.key == self.prefix + name]
        return found[0].chain if found else ()


def untimed(one: ObjectVersion) -> ObjectVersion:
    """As it is but for the time at which it was written."""
    return replace(one, modified=None, older=tuple(untimed(each) for each in one.older))


@lru_cache
def session_with(access_key_id: str, secret_access_key: str) -> AioSession:
    """One for all tests: it remembers the services' models, which take long to load."""
    session = get_session()
    session.set_credentials(access_key_id, secret_access_key)
    return session


@pytest.fixture(scope="session")
def moto_s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@asynccontextmanager
async def on_memory() -> AsyncIterator[Stand]:
    shelf = Shelf()
    arn = f"arn:aws:kms:{REGION}:111122223333:key/{uuid.uuid4()}"

    async def disable() -> None:
        shelf.disabled_keys.add(arn)

    async def enable() -> None:
        shelf.disabled_keys.discard(arn)

    async def put_by_sdk(bucket: str, key: str, data: bytes, **about: str) -> None:
        algorithm = "SSE-C" if "SSECustomerKey" in about else about.get("ServerSideEncryption", "")
        shelf.buckets[bucket].objects[key] = shelf.make(data, Attributes(), Encryption(algorithm), None)

    store, control = MemoryStore(shelf), MemoryControl(shelf)
    yield Stand("memory", store, control, "bucket", "", arn, disable, enable, put_by_sdk)


@asynccontextmanager
async def on_server(
    kind: str, endpoint_url: str, kms_endpoint_url: str, session: AioSession
) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        kms = await stack.enter_async_context(
            session.create_client("kms", region_name=REGION, endpoint_url=kms_endpoint_url)
        )
        arn = (await kms.create_key())["KeyMetadata"]["Arn"]
        config = S3Config(
            kind,
            REGION,
            endpoint_url,
            batch_delete_conditions=kind != "moto",
            keeps_every_key=kind != "seaweedfs",
        )
        credentials = await session.get_credentials()
        assert credentials is not None
        store = await stack.enter_async_context(open_s3_store(config, credentials, now=time.time))
        control = await stack.enter_async_context(S3BucketControl(config, session))

        async def disable() -> None:
            await kms.disable_key(KeyId=arn.rpartition("/")[2])

        async def enable() -> None:
            await kms.enable_key(KeyId=arn.rpartition("/")[2])

        def outsider() -> AbstractAsyncContextManager[BotoClient]:
            return session.create_client("s3", region_name=REGION, endpoint_url=endpoint_url, config=OUTSIDER)

        plain = await stack.enter_async_context(
            session.create_client("s3", region_name=REGION, endpoint_url=endpoint_url)
        )

        async def put_by_sdk(bucket: str, key: str, data: bytes, **about: str) -> None:
            await plain.put_object(Bucket=bucket, Key=key, Body=data, **about)  # type: ignore[arg-type]

        yield Stand(
            kind,
            store,
            control,
            f"contract-{kind}",
            "",
            arn,
            disable,
            enable,
            put_by_sdk,
            outsider=outsider,
        )


@pytest.fixture(params=["memory", "seaweedfs", "moto"])
def opened(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Stand]:
    """A stand that isn't entered yet: servers are started outside of any event loop."""
    if request.param == "memory":
        return on_memory()
    if request.param == "moto":
        endpoint: str = request.getfixturevalue("moto_s3_endpoint")
        return on_server("moto", endpoint, endpoint, session_with("AKIDMOTO", "secret"))
    sandbox: Sandbox = request.getfixturevalue("sandbox")
    session = session_with(sandbox.access_key_id, sandbox.secret_access_key)
    return on_server("seaweedfs", sandbox.s3_endpoint, sandbox.kms_endpoint, session)


@pytest.fixture
async def stand(opened: AbstractAsyncContextManager[Stand]) -> AsyncIterator[Stand]:
    async with opened as stand:
        await stand.control.create(stand.bucket, REGION, claim=stand.claim)
        stand.prefix = f"{uuid.uuid4().hex}/"
        yield stand


@pytest.fixture
async def versioned(stand: Stand) -> Stand:
    """The stand with a bucket that keeps versions."""
    stand.bucket = f"{stand.bucket}-versioned"
    await stand.control.create(stand.bucket, REGION, versioned=True, claim=stand.claim)
    return stand


@pytest.fixture
async def locking(stand: Stand) -> Stand:
    """The stand with a bucket whose versions can be locked."""
    stand.bucket = f"{stand.bucket}-locking"
    await stand.control.create(stand.bucket, REGION, object_lock=True, claim=stand.claim)
    return stand
