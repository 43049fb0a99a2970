"""Every request names the account that must own the bucket: a bucket of somebody else's is never read or written."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import pytest
from aiobotocore.session import get_session

from rekeyd.domain.errors import StoreError
from rekeyd.domain.objects import NULL_VERSION, Attributes, ByteSpan, ObjectVersion
from rekeyd.stores.buckets import BucketControl
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import IfAbsent, IfMatches, ObjectStore, Part, UnderKey, Upload
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.control import S3BucketControl
from rekeyd.stores.s3.store import S3Store, open_s3_store
from tests.doubles.claim import Claim
from tests.doubles.front import Front, Reply, Seen

OWNER = "111122223333"
VERSION = ObjectVersion("k", 4, "abc")
NULL = ObjectVersion("k", 4, "abc", NULL_VERSION)
NULL_MARKER = ObjectVersion("k", 0, "", NULL_VERSION, marker=True)
UPLOAD = Upload("bucket", "k", "upload")
UNDER = UnderKey(f"arn:aws:kms:us-east-1:{OWNER}:key/1")
CLAIM = Claim()

HEAD = {"etag": '"abc"', "x-amz-request-id": "R"}


def xml(root: str, inside: str = "", status: int = 200) -> Reply:
    return Reply(
        status, {"x-amz-request-id": "R"}, f'<?xml version="1.0"?><{root}>{inside}</{root}>'.encode()
    )


def refused(status: int, code: str) -> Reply:
    return xml("Error", f"<Code>{code}</Code><Message>m</Message>", status)


OK = Reply(200, HEAD)
FOUND = Reply(200, HEAD, b"data")
NO_VERSIONS = xml("ListVersionsResult", "<IsTruncated>false</IsTruncated>")
A_MARKER = xml(
    "ListVersionsResult",
    "<IsTruncated>false</IsTruncated><DeleteMarker><Key>k</Key><VersionId>null</VersionId>"
    "<IsLatest>true</IsLatest><LastModified>2026-01-01T00:00:00Z</LastModified></DeleteMarker>",
)


@dataclass(frozen=True, slots=True)
class Case:
    """A call, what is answered to it, and the requests that it takes."""

    call: Callable[[S3Store, S3BucketControl], Awaitable[object]]
    replies: tuple[Reply, ...]
    requests: tuple[str, ...]
    """Method and target of each, as far as they tell them apart."""


async def read(store: S3Store, _: S3BucketControl) -> bytes:
    async with store.read("bucket", VERSION) as stream:
        return b"".join([chunk async for chunk in stream.chunks()])


CASES: dict[str, Case] = {
    "list_page": Case(
        lambda s, _: s.list_page("bucket", "p/"),
        (xml("ListBucketResult", "<IsTruncated>false</IsTruncated>"),),
        ("GET /bucket?",),
    ),
    "list_versions_page": Case(
        lambda s, _: s.list_versions_page("bucket", "p/"), (NO_VERSIONS,), ("GET /bucket?",)
    ),
    "head": Case(lambda s, _: s.head("bucket", "k"), (FOUND,), ("HEAD /bucket/k",)),
    "head, asked again": Case(
        lambda s, _: s.head("bucket", "k"),
        (Reply(400, HEAD), refused(400, "InvalidRequest")),
        ("HEAD /bucket/k", "GET /bucket/k"),
    ),
    "read": Case(read, (FOUND,), ("GET /bucket/k",)),
    "read_tags": Case(
        lambda s, _: s.read_tags("bucket", VERSION),
        (xml("Tagging", "<TagSet/>"),),
        ("GET /bucket/k?tagging",),
    ),
    "put": Case(
        lambda s, _: s.put(
            *("bucket", "k", BytesContent(b"data"), Attributes()),
            condition=IfAbsent(),
            under=None,
            crc64nvme=1,
            claim=CLAIM,
        ),
        (OK,),
        ("PUT /bucket/k",),
    ),
    "update_encryption": Case(
        lambda s, _: s.update_encryption("bucket", VERSION, under=UNDER, claim=CLAIM),
        (OK,),
        ("PUT /bucket/k?encryption",),
    ),
    "copy": Case(
        lambda s, _: s.copy(
            *("bucket", "k"),
            source_bucket="source",
            source=VERSION,
            condition=IfAbsent(),
            under=UNDER,
            claim=CLAIM,
        ),
        (xml("CopyObjectResult", "<ETag>e</ETag>"),),
        ("PUT /bucket/k",),
    ),
    "begin_upload": Case(
        lambda s, _: s.begin_upload("bucket", "k", Attributes(), under=UNDER, claim=CLAIM),
        (xml("InitiateMultipartUploadResult", "<UploadId>u</UploadId>"),),
        ("POST /bucket/k?uploads",),
    ),
    "put_part": Case(
        lambda s, _: s.put_part(UPLOAD, 1, BytesContent(b"data"), claim=CLAIM), (OK,), ("PUT /bucket/k?",)
    ),
    "copy_part": Case(
        lambda s, _: s.copy_part(
            *(UPLOAD, 1), source_bucket="source", source=VERSION, span=ByteSpan(0, 4), claim=CLAIM
        ),
        (xml("CopyPartResult", "<ETag>e</ETag>"),),
        ("PUT /bucket/k?",),
    ),
    "complete_upload": Case(
        lambda s, _: s.complete_upload(
            UPLOAD, [Part(1, "e", 4, None)], condition=IfAbsent(), crc64nvme=1, claim=CLAIM
        ),
        (xml("CompleteMultipartUploadResult", "<ETag>e</ETag>"),),
        ("POST /bucket/k?uploadId",),
    ),
    "abort_upload": Case(
        lambda s, _: s.abort_upload(UPLOAD, claim=CLAIM), (Reply(204, HEAD),), ("DELETE /bucket/k?uploadId",)
    ),
    "list_uploads": Case(
        lambda s, _: s.list_uploads("bucket", "p/"),
        (xml("ListMultipartUploadsResult", "<IsTruncated>false</IsTruncated>"),),
        ("GET /bucket?",),
    ),
    "hide": Case(
        lambda s, _: s.hide("bucket", "k", condition=IfMatches("abc"), claim=CLAIM),
        (Reply(204, {**HEAD, "x-amz-delete-marker": "true", "x-amz-version-id": "v"}),),
        ("DELETE /bucket/k",),
    ),
    "delete": Case(
        lambda s, _: s.delete("bucket", [VERSION, ObjectVersion("l", 4, "abc")], claim=CLAIM),
        (xml("DeleteResult", "<Deleted><Key>k</Key></Deleted><Deleted><Key>l</Key></Deleted>"),),
        ("POST /bucket?delete",),
    ),
    "delete, of one that was replaced": Case(
        lambda s, _: s.delete("bucket", [VERSION], claim=CLAIM),
        (refused(412, "PreconditionFailed"), Reply(200, {**HEAD, "etag": '"other"'})),
        ("DELETE /bucket/k", "HEAD /bucket/k"),
    ),
    "delete, of what has the id null": Case(
        lambda s, _: s.delete("bucket", [NULL], claim=CLAIM),
        (FOUND, Reply(204, HEAD)),
        ("HEAD /bucket/k?", "DELETE /bucket/k?"),
    ),
    "delete, of a marker that has the id null": Case(
        lambda s, _: s.delete("bucket", [NULL_MARKER], claim=CLAIM),
        (A_MARKER, Reply(204, HEAD), NO_VERSIONS),
        ("GET /bucket?", "DELETE /bucket/k?", "GET /bucket?"),
    ),
    "describe": Case(
        lambda _, c: c.describe("bucket"),
        (
            OK,
            refused(404, "ServerSideEncryptionConfigurationNotFoundError"),
            xml("VersioningConfiguration"),
            refused(404, "NoSuchTagSet"),
            refused(404, "NoSuchPublicAccessBlockConfiguration"),
            refused(404, "ObjectLockConfigurationNotFoundError"),
        ),
        (
            *("HEAD /bucket", "GET /bucket?encryption", "GET /bucket?versioning", "GET /bucket?tagging"),
            *("GET /bucket?publicAccessBlock", "GET /bucket?object-lock"),
        ),
    ),
    "create": Case(
        lambda _, c: c.create("bucket", "us-east-1", versioned=True, object_lock=True, claim=CLAIM),
        (OK, OK, refused(404, "ObjectLockConfigurationNotFoundError"), OK),
        ("PUT /bucket", "PUT /bucket?versioning", "GET /bucket?object-lock", "PUT /bucket?object-lock"),
    ),
    "create, in another region": Case(
        lambda _, c: c.create("bucket", "eu-central-1", versioned=True, claim=CLAIM),
        (OK, OK),
        ("PUT /bucket", "PUT /bucket?versioning"),
    ),
    "enable_versioning": Case(
        lambda _, c: c.enable_versioning("bucket", claim=CLAIM), (OK,), ("PUT /bucket?versioning",)
    ),
    "set_tags": Case(
        lambda _, c: c.set_tags("bucket", {"a": "b"}, claim=CLAIM), (OK,), ("PUT /bucket?tagging",)
    ),
    "set_tags, to none": Case(
        lambda _, c: c.set_tags("bucket", {}, claim=CLAIM), (Reply(204, HEAD),), ("DELETE /bucket?tagging",)
    ),
    "set_default_key": Case(
        lambda _, c: c.set_default_key("bucket", UNDER.key_arn, claim=CLAIM),
        (OK,),
        ("PUT /bucket?encryption",),
    ),
    "block_public_access": Case(
        lambda _, c: c.block_public_access("bucket", claim=CLAIM), (OK,), ("PUT /bucket?publicAccessBlock",)
    ),
    "describe_rules": Case(
        lambda _, c: c.describe_rules("bucket"),
        (Reply(200, HEAD, json.dumps({"Statement": []}).encode()), xml("LifecycleConfiguration")),
        ("GET /bucket?policy", "GET /bucket?lifecycle"),
    ),
    "set_policy": Case(
        lambda _, c: c.set_policy("bucket", {"Statement": []}, claim=CLAIM),
        (Reply(204, HEAD),),
        ("PUT /bucket?policy",),
    ),
    "expire_unfinished_uploads": Case(
        lambda _, c: c.expire_unfinished_uploads("bucket", 7, claim=CLAIM),
        (refused(404, "NoSuchLifecycleConfiguration"), OK),
        ("GET /bucket?lifecycle", "PUT /bucket?lifecycle"),
    ),
}

WITHOUT_OWNER = "PUT /bucket"
"""CreateBucket has no parameter for it ("CreateBucket", Amazon S3 API Reference): there is no owner yet."""


async def seen_of(case: Case, account_id: str) -> list[Seen]:
    """The requests that the call makes."""
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(Front.started())
        front.will(*case.replies)
        config = S3Config("s3", "us-east-1", front.endpoint_url, account_id=account_id)
        session = get_session()
        session.set_credentials("AKID", "secret")
        credentials = await session.get_credentials()
        assert credentials is not None
        store = await stack.enter_async_context(open_s3_store(config, credentials, now=time.time))
        control = await stack.enter_async_context(S3BucketControl(config, session))
        # Some of the answers are refusals, and it is the requests that are looked at: one of them too many shows.
        with suppress(StoreError):
            await case.call(store, control)
        return front.seen


def methods(protocol: type) -> set[str]:
    """The calls of a port."""
    return {
        name for name, member in inspect.getmembers(protocol, inspect.isfunction) if not name.startswith("_")
    }


def test_every_call_of_both_ports_has_a_case() -> None:
    assert {name.partition(",")[0] for name in CASES} == methods(ObjectStore) | methods(BucketControl)


@pytest.mark.parametrize("name", CASES)
async def test_every_request_names_the_owner(name: str) -> None:
    case = CASES[name]
    seen = await seen_of(case, OWNER)

    lines = [f"{each.method} {each.target}" for each in seen]
    assert len(lines) == len(case.requests), lines
    for request, line, wanted in zip(seen, lines, case.requests, strict=True):
        assert line.startswith(wanted), lines
        owner = None if line == WITHOUT_OWNER and name.startswith("create") else OWNER
        assert request.headers.get("x-amz-expected-bucket-owner") == owner, line
        copies = "x-amz-copy-source" in request.headers
        assert copies is name.startswith("copy")
        assert request.headers.get("x-amz-source-expected-bucket-owner") == (OWNER if copies else None), line
        if owner is not None:
            assert "x-amz-expected-bucket-owner" in request.headers["authorization"], "it is signed"


@pytest.mark.parametrize("name", ["put", "copy", "describe", "set_policy"])
async def test_without_an_account_no_owner_is_named(name: str) -> None:
    for request in await seen_of(CASES[name], ""):
        assert not [header for header in request.headers if "bucket-owner" in header]


async def test_where_the_sdk_asks_for_a_region_by_itself_it_names_the_owner() -> None:
    """A redirect that doesn't say where to has botocore ask HeadBucket."""
    redirect = xml("Error", "<Code>PermanentRedirect</Code>", 301)
    elsewhere = Reply(200, {**HEAD, "x-amz-bucket-region": "eu-central-1"})
    case = Case(CASES["describe_rules"].call, (redirect, elsewhere, *CASES["describe_rules"].replies), ())

    seen = await seen_of(case, OWNER)

    assert [each.method for each in seen] == ["GET", "HEAD", "GET", "GET"]
    assert {each.headers.get("x-amz-expected-bucket-owner") for each in seen} == {OWNER}
