"""Bad weather: whatever a store or the network does, it comes out as the right error and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from urllib.parse import unquote_to_bytes

import pytest

from rekeyd.domain.errors import (
    AccessDeniedError,
    InterruptedTransferError,
    KeyUnusableError,
    NotFoundError,
    PreconditionError,
    StoreError,
    StoreRefusedError,
    ThrottledError,
    UnavailableError,
)
from rekeyd.domain.objects import Attributes, ByteSpan, ObjectVersion
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import IfAbsent, Part, UnderKey, Upload
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.signing import Credentials
from rekeyd.stores.s3.store import S3Store, open_s3_store
from tests.doubles.claim import Claim
from tests.doubles.front import Front, Reply
from tests.patience import HANG_SECONDS

VERSION = ObjectVersion("k", 10, "abc")
UPLOAD = Upload("bucket", "k", "upload")
UNDER = UnderKey("arn:aws:kms:us-east-1:111122223333:key/1")
ETAG = {"etag": '"abc"'}
LISTING = (
    b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>1</KeyCount>'
    b"<Contents><Key>p/a</Key><Size>1</Size><ETag>&quot;e&quot;</ETag></Contents></ListBucketResult>"
)


class StaticCredentials:
    async def get_frozen_credentials(self) -> Credentials:
        return Credentials("AKID", "secret")


@dataclass
class Scene:
    front: Front
    store: S3Store
    config: S3Config
    claim: Claim

    async def put(self, data: bytes = b"data") -> object:
        return await self.store.put(
            "bucket",
            "k",
            BytesContent(data),
            Attributes(),
            condition=IfAbsent(),
            under=None,
            crc64nvme=None,
            claim=self.claim,
        )

    async def copy(self) -> object:
        return await self.store.copy(
            "bucket",
            "k",
            source_bucket="bucket",
            source=VERSION,
            condition=IfAbsent(),
            under=UNDER,
            claim=self.claim,
        )

    async def copy_part(self) -> object:
        return await self.store.copy_part(
            UPLOAD, 1, source_bucket="bucket", source=VERSION, span=ByteSpan(0, 5), claim=self.claim
        )

    async def put_part(self) -> object:
        return await self.store.put_part(UPLOAD, 1, BytesContent(b"ten bytes!"), claim=self.claim)

    async def complete(self) -> object:
        return await self.store.complete_upload(
            UPLOAD, [Part(1, "e", 10, None)], condition=IfAbsent(), crc64nvme=1, claim=self.claim
        )

    async def delete(self) -> object:
        return await self.store.delete("bucket", [VERSION], claim=self.claim)

    async def read(self, span: ByteSpan | None = None) -> bytes:
        async with self.store.read("bucket", VERSION, span) as stream:
            return b"".join([chunk async for chunk in stream.chunks()])

    async def listing(self) -> object:
        return await self.store.list_page("bucket", "p/")

    async def head(self) -> object:
        return await self.store.head("bucket", "k")


Call = Callable[[Scene], Awaitable[object]]
CALLS: tuple[Call, ...] = (
    Scene.put,
    Scene.copy,
    Scene.copy_part,
    Scene.complete,
    Scene.read,
    Scene.listing,
    Scene.head,
)
IN_A_BODY: tuple[Call, ...] = (Scene.copy, Scene.copy_part, Scene.complete)


@asynccontextmanager
async def scene_with(**bounds: float) -> AsyncIterator[Scene]:
    async with Front.started() as front:
        config = S3Config("s3", "us-east-1", front.endpoint_url, **bounds)  # type: ignore[arg-type]
        async with open_s3_store(config, StaticCredentials(), now=time.time) as store:
            yield Scene(front, store, config, Claim())


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with scene_with() as scene:
        yield scene


def refusal(status: int, code: str, message: str = "", **headers: str) -> Reply:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Reply(status, {"x-amz-request-id": "R1", **headers}, body.encode())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(500, "InternalError"), UnavailableError),
        (refusal(503, "SlowDown"), ThrottledError),
        (refusal(503, "ServiceUnavailable"), ThrottledError),
        (refusal(429, "TooManyRequests"), ThrottledError),
        (refusal(403, "AccessDenied"), AccessDeniedError),
        (refusal(404, "NoSuchKey"), NotFoundError),
        (refusal(412, "PreconditionFailed"), PreconditionError),
        (refusal(409, "ConditionalRequestConflict"), PreconditionError),
        (refusal(400, "InvalidRequest"), StoreRefusedError),
        (refusal(501, "NotImplemented"), StoreRefusedError),
        (Reply(502, {}, b"<html>bad gateway</html>"), UnavailableError),
        (Reply(504), UnavailableError),
        (Reply(resets_read=True), UnavailableError),
        (Reply(resets_unread=True), UnavailableError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
async def test_a_refusal_is_its_error(scene: Scene, call: Call, reply: Reply, kind: type[StoreError]) -> None:
    if call is Scene.head and reply.status == 409:
        pytest.skip("a HEAD changes nothing that it could conflict with, and its answer names no code")
    # The answer to HEAD has no body: why it is refused, a GET is asked.
    asks_again = call is Scene.head and kind is StoreRefusedError
    scene.front.will(reply, *([reply] if asks_again else []))

    with pytest.raises(StoreError) as error:
        await call(scene)

    assert type(error.value) is kind
    assert [seen.method for seen in scene.front.seen[1:]] == (["GET"] if asks_again else [])


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(400, "KMS.DisabledException"), KeyUnusableError),
        (refusal(400, "KMS.KMSInvalidStateException"), KeyUnusableError),
        (refusal(400, "KMS.NotFoundException"), KeyUnusableError),
        (refusal(400, "KMS.ThrottlingException"), ThrottledError),
        (refusal(403, "AccessDenied", "not authorized to perform: kms:Decrypt on"), KeyUnusableError),
        (refusal(400, "BadDigest"), InterruptedTransferError),
        (refusal(400, "IncompleteBody"), InterruptedTransferError),
        (refusal(400, "RequestTimeout"), UnavailableError),
        (Reply(404, {}, b"<html>not found</html>"), StoreRefusedError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
async def test_a_code_is_its_error(scene: Scene, reply: Reply, kind: type[StoreError]) -> None:
    scene.front.will(reply)

    with pytest.raises(StoreError) as error:
        await scene.put()

    assert type(error.value) is kind


async def test_an_error_carries_what_the_store_says(scene: Scene) -> None:
    scene.front.will(refusal(503, "SlowDown", "be patient", **{"retry-after": "7"}))

    with pytest.raises(ThrottledError) as error:
        await scene.put()

    assert error.value.code == "SlowDown"
    assert error.value.request_id == "R1"
    assert error.value.retry_after_seconds == 7
    assert error.value.repeatable
    assert error.value.slow_down
    assert not error.value.outcome_unknown


async def test_the_side_of_a_failed_condition_is_said(scene: Scene) -> None:
    body = b"<Error><Code>PreconditionFailed</Code><Condition>%s</Condition></Error>"
    sides = {b"x-amz-copy-source-If-Match": "source", b"If-None-Match": "target", b"": "unknown"}
    for condition, side in sides.items():
        scene.front.will(Reply(412, {}, body % condition))
        with pytest.raises(PreconditionError) as error:
            await scene.copy()
        assert error.value.side == side


@pytest.mark.parametrize("call", IN_A_BODY)
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<Error><Code>InternalError</Code></Error>", UnavailableError),
        (b'\n  \n<?xml version="1.0"?>\n<Error><Code>SlowDown</Code></Error>', ThrottledError),
        (b"<Error><Code>NeverHeardOf</Code></Error>", UnavailableError),
        (b"<Error><Code>AccessDenied</Code></Error>", AccessDeniedError),
        (b"", UnavailableError),
        (b"   \n", UnavailableError),
        (b"<CopyObjectResult><ETag>e</ET", UnavailableError),
        (b"<Something/>", UnavailableError),
        (
            b"<!DOCTYPE a [<!ENTITY b 'c'>]><CopyObjectResult><ETag>&b;</ETag></CopyObjectResult>",
            UnavailableError,
        ),
        (b"<html>ok</html>", UnavailableError),
        (b"<CopyObjectResult/>", UnavailableError),
    ],
)
async def test_an_error_inside_a_200_is_one_of_unknown_outcome(
    scene: Scene, call: Call, body: bytes, kind: type[StoreError]
) -> None:
    scene.front.will(Reply(200, {}, body))

    with pytest.raises(StoreError) as error:
        await call(scene)

    assert type(error.value) is kind
    assert error.value.outcome_unknown


async def test_whitespace_before_a_success_is_none_of_its_business(scene: Scene) -> None:
    result = b'\n \n\r\n<?xml version="1.0"?><CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>'
    scene.front.will(Reply(200, {}, result))

    assert (await scene.copy()).etag == "e"  # type: ignore[attr-defined]


@pytest.mark.parametrize("call", [Scene.put])
async def test_a_write_without_an_etag_is_of_unknown_outcome(scene: Scene, call: Call) -> None:
    scene.front.will(Reply(200))

    with pytest.raises(UnavailableError) as error:
        await call(scene)
    assert error.value.outcome_unknown


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, ETAG, b"01234", announced_bytes=10, closes_after=True),
        Reply(200, ETAG, b"01234"),
        Reply(200, ETAG, b"0123456789ab"),
    ],
    ids=["cut", "shorter", "longer"],
)
async def test_a_body_of_another_length_is_never_taken(scene: Scene, reply: Reply) -> None:
    scene.front.will(reply)
    with pytest.raises(InterruptedTransferError):
        await scene.read()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200, {"etag": '"other"'}, b"0123456789"), PreconditionError),
        (Reply(200, {}, b"0123456789"), UnavailableError),
        (Reply(206, {**ETAG, "content-range": "bytes 0-9/10"}, b"0123456789"), UnavailableError),
        (Reply(204, ETAG), UnavailableError),
    ],
)
async def test_another_object_is_never_taken(scene: Scene, reply: Reply, kind: type[StoreError]) -> None:
    scene.front.will(reply)
    with pytest.raises(kind):
        await scene.read()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(206, {**ETAG, "content-range": "bytes 3-6/10"}, b"3456"), InterruptedTransferError),
        (Reply(206, {**ETAG, "content-range": "nonsense"}, b"2345"), UnavailableError),
        (Reply(206, ETAG, b"2345"), UnavailableError),
        (Reply(206, {**ETAG, "content-range": "bytes 2-5/10"}, b"234"), InterruptedTransferError),
        (Reply(200, ETAG, b"0123456789"), UnavailableError),
    ],
)
async def test_another_span_is_never_taken(scene: Scene, reply: Reply, kind: type[StoreError]) -> None:
    scene.front.will(reply)
    with pytest.raises(kind):
        await scene.read(ByteSpan(2, 6))


async def test_the_right_span_is_taken(scene: Scene) -> None:
    scene.front.will(Reply(206, {**ETAG, "content-range": "bytes 2-5/10"}, b"2345"))

    assert await scene.read(ByteSpan(2, 6)) == b"2345"
    (seen,) = scene.front.seen
    assert (seen.headers["range"], seen.headers["if-match"]) == ("bytes=2-5", '"abc"')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<ListBucketResult>",
        b"<ListBucketResult/>",
        b"<Other><IsTruncated>false</IsTruncated></Other>",
        b"<Error><Code>InternalError</Code></Error>",
        b"<html><body>It works</body></html>",
        LISTING.replace(b"<IsTruncated>false</IsTruncated>", b""),
        LISTING.replace(b"<KeyCount>1<", b"<KeyCount>2<"),
        LISTING.replace(b"<Key>p/a<", b"<Key>q/a<"),
        LISTING.replace(b"<Key>p/a</Key>", b""),
        LISTING.replace(b"<Size>1<", b"<Size>x<"),
        LISTING.replace(b"false", b"true"),
        LISTING[:-10],
        LISTING.replace(b"<ListBucketResult>", b"<!DOCTYPE x><ListBucketResult>"),
    ],
)
async def test_a_listing_that_makes_no_sense_is_never_a_page(scene: Scene, body: bytes) -> None:
    scene.front.will(Reply(200, {}, body))
    with pytest.raises(UnavailableError):
        await scene.listing()


async def test_a_page_that_comes_again_is_an_error(scene: Scene) -> None:
    truncated = LISTING.replace(
        b"false</IsTruncated>", b"true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    )
    scene.front.will(Reply(200, {}, truncated), Reply(200, {}, truncated))
    page = await scene.store.list_page("bucket", "p/")

    with pytest.raises(UnavailableError):
        await scene.store.list_page("bucket", "p/", after=page.resume_after)


async def test_a_batch_delete_that_leaves_objects_out_is_an_error(scene: Scene) -> None:
    scene.front.will(Reply(200, {}, b"<DeleteResult><Deleted><Key>k</Key></Deleted></DeleteResult>"))

    with pytest.raises(UnavailableError) as error:
        await scene.store.delete("bucket", [VERSION, replace(VERSION, key="l")], claim=scene.claim)
    assert error.value.outcome_unknown


async def test_the_outcomes_of_a_batch_delete_are_told_apart(scene: Scene) -> None:
    errors = b"".join(
        b"<Error><Key>%s</Key><Code>%s</Code></Error>" % pair
        for pair in (
            (b"l", b"PreconditionFailed"),
            (b"m", b"AccessDenied"),
            (b"n", b"NoSuchKey"),
            (b"o", b"InternalError"),
        )
    )
    body = b"<DeleteResult><Deleted><Key>k</Key></Deleted>" + errors + b"</DeleteResult>"
    scene.front.will(Reply(200, {}, body))

    outcomes = await scene.store.delete(
        "bucket", [replace(VERSION, key=key) for key in "klmno"], claim=scene.claim
    )

    assert [one.result for one in outcomes] == ["deleted", "changed", "failed", "deleted", "failed"]


async def test_a_412_to_a_delete_is_settled_by_looking(scene: Scene) -> None:
    failed = refusal(412, "PreconditionFailed")
    for head, result in (
        (Reply(404, {"x-amz-request-id": "1"}), "deleted"),
        (Reply(200, {"etag": '"other"'}), "changed"),
        (Reply(200, {"etag": '"abc"'}), "failed"),
    ):
        scene.front.will(failed, head)
        (outcome,) = await scene.store.delete("bucket", [VERSION], claim=scene.claim)
        assert outcome.result == result


async def test_a_proxys_404_to_a_head_says_nothing_about_the_object(scene: Scene) -> None:
    scene.front.will(Reply(404), Reply(404))
    with pytest.raises(StoreRefusedError):
        await scene.store.head("bucket", "a")


async def test_silence_ends_by_itself() -> None:
    async with scene_with(answer_seconds_max=0.2, read_gap_seconds_max=0.2) as scene:
        for call in (Scene.listing, Scene.head, Scene.read):
            scene.front.will(Reply(hangs=True))
            with pytest.raises(UnavailableError):
                await call(scene)
        scene.front.will(Reply(200, ETAG, b"01234", announced_bytes=10))
        with pytest.raises(InterruptedTransferError):
            await scene.read()


@pytest.mark.parametrize("call", [Scene.put, *IN_A_BODY])
async def test_a_change_is_given_up_at_the_claims_deadline(scene: Scene, call: Call) -> None:
    scene.front.will(Reply(hangs=True))
    scene.claim.seconds = 0.2

    with pytest.raises(UnavailableError) as error:
        await call(scene)
    assert error.value.outcome_unknown


async def test_a_server_that_is_not_there_changed_nothing() -> None:
    async with scene_with() as scene:
        endpoint = scene.front.endpoint_url
    async with open_s3_store(
        S3Config("s3", "us-east-1", endpoint), StaticCredentials(), now=time.time
    ) as store:
        with pytest.raises(UnavailableError) as error:
            await replace(scene, store=store).put()
    assert not error.value.outcome_unknown
    assert error.value.repeatable


async def test_a_change_is_never_repeated_by_itself(scene: Scene) -> None:
    """On a connection that was used before, aiohttp would send a PUT again when it is reset."""
    scene.front.will(Reply(200, ETAG), Reply(resets_read=True), Reply(200, ETAG))
    await scene.put()

    with pytest.raises(UnavailableError) as error:
        await scene.put()

    assert error.value.outcome_unknown
    assert scene.front.connections == 1
    assert len(scene.front.seen) == 2


async def test_another_region_is_learnt_once(scene: Scene) -> None:
    moved = Reply(301, {"x-amz-bucket-region": "eu-west-1"})
    scene.front.will(moved, Reply(200, ETAG), Reply(200, ETAG))

    await scene.put()
    await scene.put()

    regions = [seen.headers["authorization"].split("/")[2] for seen in scene.front.seen]
    assert regions == ["us-east-1", "eu-west-1", "eu-west-1"]
    assert scene.claim.asked == 3, "a deadline for each sending"


async def test_the_region_is_read_from_a_malformed_authorization_too(scene: Scene) -> None:
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
    scene.front.will(Reply(400, {}, body), Reply(200, {}, LISTING))

    assert await scene.listing()


async def test_a_store_that_sends_us_in_a_circle_is_left(scene: Scene) -> None:
    there, back = ({"x-amz-bucket-region": region} for region in ("eu-west-1", "us-east-1"))
    scene.front.will(Reply(301, there), Reply(301, back))

    with pytest.raises(StoreRefusedError):
        await scene.put()
    assert len(scene.front.seen) == 2


async def test_a_redirect_is_not_followed(scene: Scene) -> None:
    scene.front.will(Reply(307, {"location": "http://127.0.0.1:9/elsewhere"}))

    with pytest.raises(StoreRefusedError):
        await scene.put()


async def test_a_clock_that_is_off_is_corrected_once(scene: Scene) -> None:
    there = formatdate(time.time() + 7200, usegmt=True)
    skewed = refusal(403, "RequestTimeTooSkewed", date=there)
    scene.front.will(skewed, Reply(200, ETAG), skewed)

    with pytest.raises(UnavailableError) as error:
        await scene.put()
    assert error.value.repeatable
    assert not error.value.outcome_unknown
    await scene.put()
    with pytest.raises(AccessDeniedError):
        await scene.put()

    stamps = [seen.headers["x-amz-date"] for seen in scene.front.seen]
    assert stamps[0] < stamps[1]


async def test_an_answer_is_not_read_without_end() -> None:
    async with scene_with(answer_bytes_max=1000) as scene:
        scene.front.will(Reply(200, {}, b" " * 5000))
        with pytest.raises(UnavailableError):
            await scene.listing()


async def test_a_request_says_nothing_of_its_own(scene: Scene) -> None:
    scene.front.will(Reply(200, ETAG))
    await scene.put()

    (seen,) = scene.front.seen
    assert seen.target == "/bucket/k"
    assert set(seen.headers) == {
        *("authorization", "content-length", "content-type", "host", "if-none-match"),
        *("x-amz-content-sha256", "x-amz-date"),
    }


@pytest.mark.parametrize("key", ["/lead", "a//b", "./x", "../y", "a/../b", "%2F", "a+b c", "ü\n\x01", "?#&="])
async def test_a_key_goes_out_as_its_bytes(scene: Scene, key: str) -> None:
    scene.front.will(Reply(200, {**ETAG, "content-length": "0"}))
    await scene.store.head("bucket", key)

    (seen,) = scene.front.seen
    assert unquote_to_bytes(seen.target) == b"/bucket/" + key.encode()


async def test_a_body_comes_in_as_it_is(scene: Scene) -> None:
    scene.front.will(Reply(200, {**ETAG, "content-encoding": "gzip"}, b"not gzip!!"))

    assert await scene.read() == b"not gzip!!"


async def test_a_long_body_is_cut_off_where_its_content_fails(scene: Scene) -> None:
    class Failing:
        size_bytes = 2_000_000

        @asynccontextmanager
        async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
            yield self._chunks()

        async def _chunks(self) -> AsyncGenerator[bytes]:
            yield b"x" * 1_000_000
            raise KeyUnusableError("read", "gone", code="KMS.DisabledException")

    scene.front.will(Reply(200, ETAG))
    with pytest.raises(KeyUnusableError):
        await scene.store.put_part(UPLOAD, 1, Failing(), claim=scene.claim)
    await asyncio.sleep(0.05)

    (seen,) = scene.front.seen
    assert not seen.whole


async def test_a_refusal_amid_a_long_body_is_heard(scene: Scene) -> None:
    scene.front.will(refusal(412, "PreconditionFailed"))

    with pytest.raises(PreconditionError):
        await scene.put(b"x" * 3_000_000)


@pytest.mark.parametrize(
    "endpoint_url",
    [
        "http://store.example",
        "http://10.0.0.1:8333",
        "ftp://127.0.0.1",
        "http://127.0.0.1/path",
        "store",
        "http://u@127.0.0.1",
    ],
)
def test_only_loopback_may_do_without_tls(endpoint_url: str) -> None:
    with pytest.raises(ValueError, match="endpoint_url"):
        S3Config("s3", "us-east-1", endpoint_url)


@pytest.mark.parametrize(
    "endpoint_url", ["https://store.example", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost/"]
)
def test_loopback_and_tls_are_taken(endpoint_url: str) -> None:
    assert S3Config("s3", "us-east-1", endpoint_url).endpoint_url == endpoint_url


PUBLISHING: tuple[Call, ...] = (Scene.put, Scene.copy, Scene.complete, Scene.delete)


@pytest.mark.parametrize("call", PUBLISHING)
@pytest.mark.parametrize(
    "reply",
    [
        Reply(hangs=True),
        Reply(resets_read=True),
        Reply(200, ETAG, b"<?xml", announced_bytes=500, closes_after=True),
        Reply(502, {}, b"<html>bad gateway</html>"),
        Reply(503, {}, b"upstream connect error or disconnect/reset before headers"),
    ],
    ids=["silence", "reset", "cut", "gateway", "proxy"],
)
async def test_a_call_without_an_answer_is_told_to_its_claim(call: Call, reply: Reply) -> None:
    """It may take effect until its deadline: nothing is concluded from its absence before."""
    async with scene_with() as scene:
        scene.claim.seconds = 0.3
        scene.front.will(reply)
        before = asyncio.get_running_loop().time()
        with pytest.raises(StoreError) as raised:
            await call(scene)
        assert raised.value.outcome_unknown
        (deadline,) = scene.claim.unanswered_deadlines
        assert before + 0.3 <= deadline <= asyncio.get_running_loop().time() + 0.3


@pytest.mark.parametrize("call", PUBLISHING)
async def test_a_call_that_is_given_up_is_told_to_its_claim(scene: Scene, call: Call) -> None:
    scene.front.will(Reply(hangs=True))
    task = asyncio.ensure_future(call(scene))
    async with asyncio.timeout(HANG_SECONDS):
        while not scene.front.seen:  # noqa: ASYNC110 - the front tells nobody
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(scene.claim.unanswered_deadlines) == 1


@pytest.mark.parametrize(
    "reply",
    [refusal(500, "InternalError"), refusal(412, "PreconditionFailed"), refusal(503, "SlowDown")],
    ids=["failed", "refused", "throttled"],
)
async def test_the_stores_own_answer_settles_a_call(scene: Scene, reply: Reply) -> None:
    scene.front.will(reply)
    with pytest.raises(StoreError):
        await scene.put()
    assert scene.claim.unanswered_deadlines == []


async def test_what_was_never_sent_and_what_nobody_sees_is_not_told() -> None:
    async with scene_with() as scene:
        scene.front.will(Reply(resets_read=True))
        with pytest.raises(StoreError):
            await scene.copy_part()
    config = replace(scene.config, endpoint_url=scene.front.endpoint_url)
    async with open_s3_store(config, StaticCredentials(), now=time.time) as store:
        with pytest.raises(UnavailableError):  # the front is gone: nothing listens there
            await replace(scene, store=store).put()
    assert scene.claim.unanswered_deadlines == []


@pytest.mark.parametrize("call", [Scene.put_part, Scene.copy_part])
async def test_a_call_may_take_as_long_as_its_bytes_do_while_its_claim_is_kept(call: Call) -> None:
    async with scene_with(bytes_per_second_min=5.0) as scene:
        scene.claim.seconds = 0.2
        scene.front.will(Reply(hangs=True))
        began = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError, match="in time"):
            await call(scene)
        # Ten bytes take two seconds at that rate, and copy_part moves five.
        bytes_due = 5 if call is Scene.copy_part else 10
        assert 0.2 + bytes_due / 5 <= asyncio.get_running_loop().time() - began < 0.2 + bytes_due / 5 + 5


async def test_a_deadline_is_put_off_no_longer_than_the_claim_is_kept() -> None:
    async with scene_with(bytes_per_second_min=1.0) as scene:
        scene.claim.seconds, scene.claim.asked_max = 0.3, 2
        scene.front.will(Reply(hangs=True))
        began = asyncio.get_running_loop().time()
        with pytest.raises(UnavailableError, match="in time"):
            await scene.put_part()
        assert asyncio.get_running_loop().time() - began < 5
