"""What others lost between two sizes.

| trap that others fell into | must hold here |
|---|---|
| multipart path loses headers, metadata, tags | both sizes end equal |
| 5 GiB limit; checksums at Complete | 5 GiB ± 1 byte by plan; parts' checksums sent |
| SDK default checksums break compatible stores | works without them |
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from xml.etree import ElementTree as ET

import pytest
from aiobotocore.session import AioSession

from rekeyd.domain.objects import Attributes, ByteSpan, ObjectVersion
from rekeyd.settings import Settings
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import IfAbsent, Part, UnderKey, Upload
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.control import S3BucketControl
from rekeyd.stores.s3.signing import Credentials
from rekeyd.stores.s3.store import S3Store, open_s3_store
from rekeyd.transfer.plan import PlanLimits, plan_carry
from tests.doubles.claim import Claim
from tests.doubles.front import Front, Reply, Seen
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import LIMITS, MEBIBYTE, Data

GIBIBYTE = 1024**3
DRESSED = Attributes(
    headers={
        "content-type": "text/plain",
        "cache-control": "no-store",
        "content-disposition": "attachment",
        "content-encoding": "gzip",
        "content-language": "de",
        "expires": "Thu, 01 Jan 2032 00:00:00 GMT",
    },
    metadata={"origin": "a test", "empty": ""},
    tags={"team": "blue", "größe": "klein"},
    storage_class="STANDARD_IA",
)


@pytest.mark.parametrize("versioned", [False, True], ids=["unversioned", "versioned"])
@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
async def test_multipart_path_loses_headers_metadata_tags(
    make_world: MakeWorld, server_side: bool, versioned: bool
) -> None:
    world = make_world(server_side=server_side, versioned=versioned)
    sizes = {"small": 1, "in parts": LIMITS.copy_object_bytes_max + 1}
    assert sizes["in parts"] > LIMITS.single_put_bytes_max
    objects = world.fill({name: Data(b"x" * size, DRESSED) for name, size in sizes.items()})
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)
    assert world.script.count("complete_upload") == 1
    small, large = (world.in_target()[name].attributes for name in sizes)
    assert small == large == DRESSED


@pytest.mark.parametrize("more_bytes", [-1, 0, 1])
@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
@pytest.mark.parametrize("limits", ["default", "largest", "beyond"])
def test_5_gib_limit(more_bytes: int, server_side: bool, limits: str) -> None:
    """One byte less, exactly, and one more: no request is over 5 GiB, no part but the last below 5 MiB."""
    size_bytes = 5 * GIBIBYTE + more_bytes
    defaults = Settings().limits
    chosen = {
        "default": PlanLimits(
            defaults.single_put_bytes_max, defaults.part_bytes, defaults.copy_object_bytes_max
        ),
        "largest": PlanLimits(5 * GIBIBYTE, 5 * GIBIBYTE, 5 * GIBIBYTE),
        "beyond": PlanLimits(5 * GIBIBYTE, 6 * GIBIBYTE, 6 * GIBIBYTE),
    }[limits]
    plan = plan_carry(size_bytes, server_side=server_side, limits=chosen)
    whole = plan.way in {"copy_whole", "stream_whole"}
    assert whole == (limits != "default" and more_bytes <= 0)
    if whole:
        return
    spans = plan.spans(size_bytes)
    assert len(spans) <= 10_000
    assert all(5 * MEBIBYTE <= span.size_bytes <= 5 * GIBIBYTE for span in spans[:-1])
    ends = [0, *(span.end for span in spans)]
    assert [span.first for span in spans] == ends[:-1]
    assert ends[-1] == size_bytes


class StaticCredentials:
    async def get_frozen_credentials(self) -> Credentials:
        return Credentials("AKID", "secret")


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with Front.started() as front:
        yield front


@pytest.fixture
async def store(front: Front) -> AsyncIterator[S3Store]:
    config = S3Config("s3", "us-east-1", front.endpoint_url)
    async with open_s3_store(config, StaticCredentials(), now=time.time) as store:
        yield store


UPLOAD = Upload("bucket", "k", "upload")


async def test_checksums_at_complete(front: Front, store: S3Store) -> None:
    """Every part that has one is named with its checksum, and the whole with its own, of the full object."""
    front.will(
        Reply(200, body=b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
    )
    await store.complete_upload(
        UPLOAD,
        [Part(1, "e1", 5 * MEBIBYTE, 11), Part(2, "e2", 7, 12)],
        condition=IfAbsent(),
        crc64nvme=13,
        claim=Claim(),
    )
    (seen,) = front.seen
    parts = ET.fromstring(seen.body)  # noqa: S314 - our own request
    named = [{child.tag.rpartition("}")[2]: child.text for child in part} for part in parts]
    assert [part["PartNumber"] for part in named] == ["1", "2"]
    assert [part["ChecksumCRC64NVME"] for part in named] == [_base64(11), _base64(12)]
    assert seen.headers["x-amz-checksum-crc64nvme"] == _base64(13)
    assert seen.headers["x-amz-checksum-type"] == "FULL_OBJECT"


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


def assert_plain(seen: Seen) -> None:
    """Nothing in the request is of the kind that SDKs began to send by default in 2025."""
    assert "aws-chunked" not in seen.headers.get("content-encoding", "")
    assert seen.headers.get("transfer-encoding") is None
    assert "x-amz-trailer" not in seen.headers
    assert "x-amz-sdk-checksum-algorithm" not in seen.headers
    assert "x-amz-decoded-content-length" not in seen.headers
    assert "STREAMING" not in seen.headers.get("x-amz-content-sha256", "")
    assert seen.headers.get("x-amz-checksum-mode") in {None, "ENABLED"}


async def test_sdk_default_checksums_break_compatible_stores(front: Front, store: S3Store) -> None:
    """No chunked signing, no trailers, no checksum but the one that is asked for."""
    etag = {"etag": '"abc"'}
    front.will(
        Reply(200, etag),
        Reply(200, etag),
        Reply(200, {**etag, "content-length": "4", "last-modified": "x"}, b"data"),
        Reply(200, body=b"<CopyPartResult><ETag>x</ETag></CopyPartResult>"),
    )
    claim, version = Claim(), ObjectVersion("k", 4, "abc")
    await store.put(
        "bucket",
        "k",
        BytesContent(b"data"),
        Attributes(),
        condition=IfAbsent(),
        under=UnderKey("arn"),
        crc64nvme=None,
        claim=claim,
    )
    await store.put_part(UPLOAD, 1, BytesContent(b"part"), claim=claim)
    async with store.read("bucket", version) as stream:
        assert b"".join([chunk async for chunk in stream.chunks()]) == b"data"
    await store.copy_part(UPLOAD, 1, source_bucket="bucket", source=version, span=ByteSpan(0, 4), claim=claim)
    assert [seen.body for seen in front.seen[:2]] == [b"data", b"part"]
    for seen in front.seen:
        assert_plain(seen)
        assert not [name for name in seen.headers if name.startswith("x-amz-checksum-crc")]


async def test_sdk_default_checksums_break_compatible_stores_in_the_control_plane(front: Front) -> None:
    """What S3 requires no checksum for has none; what it requires one for has the one that all know."""
    session = AioSession()
    session.set_credentials("AKID", "secret")
    config, claim = S3Config("s3", "us-east-1", front.endpoint_url), Claim()
    async with S3BucketControl(config, session) as control:
        front.will(*[Reply(200)] * 5)
        await control.create("bucket", "us-east-1", claim=claim)
        await control.enable_versioning("bucket", claim=claim)
        await control.set_tags("bucket", {"rekeyd:tenant": "acme"}, claim=claim)
        await control.set_default_key("bucket", "arn", claim=claim)
        await control.block_public_access("bucket", claim=claim)
    created, *configured = front.seen
    assert len(configured) == 4
    for seen in front.seen:
        assert_plain(seen)
        assert not [name for name in seen.headers if name.startswith("x-amz-checksum")]
    assert "content-md5" not in created.headers
    for seen in configured:
        digest = hashlib.md5(seen.body, usedforsecurity=False).digest()
        assert seen.headers["content-md5"] == base64.b64encode(digest).decode()
