"""Bad weather around versions: deletes that are told apart, heads that say why, lies about markers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rekeyd.domain.errors import (
    ArchivedError,
    CustomerKeyError,
    NotFoundError,
    PreconditionError,
    StoreError,
    StoreRefusedError,
    UnavailableError,
)
from rekeyd.domain.objects import Attributes, ObjectLock, ObjectVersion
from rekeyd.stores.port import OLDER_LEFT, IfAbsent, IfMatches
from tests.doubles.front import Reply
from tests.doubles.versions import page, version
from tests.unit.test_s3_weather import ETAG, UNDER, Scene, refusal, scene_with

V1, V2 = ObjectVersion("k", 10, "abc", "v1"), ObjectVersion("k", 10, "def", "v2")
NULL = ObjectVersion("k", 10, "abc", "null")
NULL_MARKER = ObjectVersion("k", 0, "", "null", marker=True)
GONE = Reply(404, {"x-amz-request-id": "1"})
NEEDS_KEY = refusal(
    400,
    "InvalidRequest",
    "The object was stored using a form of Server Side Encryption. The correct parameters must be provided.",
)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with scene_with() as scene:
        yield scene


def deleted(*names: tuple[str, str], errors: tuple[tuple[str, str, str], ...] = ()) -> Reply:
    body = "".join(f"<Deleted><Key>{key}</Key><VersionId>{at}</VersionId></Deleted>" for key, at in names)
    body += "".join(
        f"<Error><Key>{key}</Key><VersionId>{at}</VersionId><Code>{code}</Code></Error>"
        for key, at, code in errors
    )
    return Reply(200, {}, f"<DeleteResult>{body}</DeleteResult>".encode())


def listed(*versions: ObjectVersion) -> Reply:
    return Reply(200, {}, page([(one, not number) for number, one in enumerate(versions)]))


async def test_of_one_key_a_version_is_deleted_after_the_one_before_it(scene: Scene) -> None:
    scene.front.will(Reply(204), Reply(204))

    outcomes = await scene.store.delete("bucket", [V1, V2], claim=scene.claim)

    assert [one.result for one in outcomes] == ["deleted", "deleted"]
    assert [seen.target for seen in scene.front.seen] == ["/bucket/k?versionId=v1", "/bucket/k?versionId=v2"]
    assert scene.claim.asked == 2


@pytest.mark.parametrize("code", ["AccessDenied", "InternalError"])
async def test_of_one_key_nothing_is_deleted_after_one_that_stays(scene: Scene, code: str) -> None:
    others = [replace(V1, key="l"), replace(V2, key="l")]
    scene.front.will(deleted(("l", "v1"), errors=(("k", "v1", code),)), Reply(204))

    outcomes = await scene.store.delete("bucket", [V1, V2, *others], claim=scene.claim)

    assert [one.result for one in outcomes] == ["failed", "failed", "deleted", "deleted"]
    assert code in outcomes[0].detail
    assert outcomes[1].detail == OLDER_LEFT
    assert [seen.target for seen in scene.front.seen][1:] == ["/bucket/l?versionId=v2"]


@pytest.mark.parametrize(
    "reply",
    [
        deleted(("k", "v1"), ("l", "v2")),
        deleted(("k", "v1"), ("l", "")),
        deleted(("k", "v1"), ("l", "v1"), ("l", "v1")),
        deleted(("k", "v1"), ("l", "v1"), errors=(("k", "v1", "AccessDenied"),)),
        deleted(("k", "v1"), errors=(("l", "v2", "AccessDenied"),)),
        deleted(("k", "v1")),
    ],
    ids=["another", "none", "twice", "contradictory", "another's error", "too few"],
)
async def test_an_answer_that_isn_t_about_the_versions_named_is_none(scene: Scene, reply: Reply) -> None:
    scene.front.will(reply)

    with pytest.raises(UnavailableError) as error:
        await scene.store.delete("bucket", [V1, replace(V1, key="l")], claim=scene.claim)

    assert error.value.outcome_unknown


async def test_an_error_without_a_version_is_that_of_its_key(scene: Scene) -> None:
    scene.front.will(deleted(("l", "v1"), errors=(("k", "", "AccessDenied"),)))

    outcomes = await scene.store.delete("bucket", [V1, replace(V1, key="l")], claim=scene.claim)

    assert [one.result for one in outcomes] == ["failed", "deleted"]


async def test_what_was_only_hidden_is_not_deleted(scene: Scene) -> None:
    plain = replace(V1, version_id=None)
    hidden = b"<DeleteResult>%s</DeleteResult>" % b"".join(
        b"<Deleted><Key>%s</Key><DeleteMarker>true</DeleteMarker></Deleted>" % key for key in (b"k", b"l")
    )
    scene.front.will(
        Reply(204, {"x-amz-delete-marker": "true", "x-amz-version-id": "m"}), Reply(200, {}, hidden)
    )

    for versions in ([plain], [plain, replace(plain, key="l")]):
        outcomes = await scene.store.delete("bucket", versions, claim=scene.claim)
        assert {one.result for one in outcomes} == {"failed"}


async def test_null_is_deleted_after_a_look_at_it(scene: Scene) -> None:
    for head, deletes, result in (
        (Reply(200, ETAG), 1, "deleted"),
        (Reply(200, {"etag": '"other"'}), 0, "changed"),
        (GONE, 0, "deleted"),
        (Reply(405, {"x-amz-delete-marker": "true", "x-amz-request-id": "1"}), 0, "deleted"),
    ):
        scene.front.seen.clear()
        scene.front.will(head, *[Reply(204)] * deletes)
        (outcome,) = await scene.store.delete("bucket", [NULL], claim=scene.claim)
        assert outcome.result == result
        assert [seen.method for seen in scene.front.seen] == ["HEAD", *["DELETE"] * deletes]
        assert {seen.target for seen in scene.front.seen} == {"/bucket/k?versionId=null"}
        assert not any("if-match" in seen.headers for seen in scene.front.seen), (
            "it would be on the current one"
        )


async def test_a_null_marker_is_deleted_if_it_is_listed_and_gone_once_it_is_not(scene: Scene) -> None:
    marker, v0 = version("k", "null", marker=True), version("k", "v0")
    for replies, result in (
        ([listed(marker, v0), Reply(204), listed(v0)], "deleted"),
        ([listed(marker, v0), Reply(204), listed(marker, v0)], "failed"),
        ([listed(marker, v0), refusal(403, "AccessDenied")], "failed"),
        ([listed(version("k", "null"))], "changed"),
        ([listed(v0)], "deleted"),
        ([listed()], "deleted"),
    ):
        scene.front.will(*replies)
        (outcome,) = await scene.store.delete("bucket", [NULL_MARKER], claim=scene.claim)
        assert outcome.result == result
        assert not scene.front.replies


async def test_hiding_gives_the_markers_id(scene: Scene) -> None:
    scene.front.will(Reply(204, {"x-amz-delete-marker": "true", "x-amz-version-id": "m"}))

    written = await scene.store.hide("bucket", "k", condition=IfMatches("abc"), claim=scene.claim)

    assert (written.version_id, written.etag) == ("m", "")
    (seen,) = scene.front.seen
    assert (seen.method, seen.target, seen.headers["if-match"]) == ("DELETE", "/bucket/k", '"abc"')


@pytest.mark.parametrize(
    ("reply", "kind", "unknown"),
    [
        (refusal(412, "PreconditionFailed"), PreconditionError, False),
        (refusal(404, "NoSuchKey"), PreconditionError, False),
        (refusal(404, "NoSuchBucket"), NotFoundError, False),
        (refusal(409, "ConditionalRequestConflict"), PreconditionError, False),
        (Reply(204), StoreRefusedError, True),
        (Reply(204, {"x-amz-delete-marker": "true", "x-amz-version-id": "null"}), StoreRefusedError, True),
        (Reply(resets_read=True), UnavailableError, True),
    ],
)
async def test_hiding_that_made_no_marker_is_an_error(
    scene: Scene, reply: Reply, kind: type[StoreError], unknown: bool
) -> None:
    scene.front.will(reply)

    with pytest.raises(StoreError) as error:
        await scene.store.hide("bucket", "k", condition=IfMatches("abc"), claim=scene.claim)

    assert type(error.value) is kind
    assert error.value.outcome_unknown == unknown


async def test_why_a_head_is_refused_is_asked_for(scene: Scene) -> None:
    refused = Reply(400, {"x-amz-request-id": "1"})
    for replies, kind, code in (
        ([refused, NEEDS_KEY], CustomerKeyError, "InvalidRequest"),
        ([refused, refusal(400, "ExpiredToken")], StoreRefusedError, "ExpiredToken"),
        ([refused, Reply(200, ETAG, b"0123456789")], StoreRefusedError, ""),
        ([refused, Reply(502)], StoreRefusedError, ""),
        ([Reply(400, {"x-amz-server-side-encryption-customer-algorithm": "AES256"})], CustomerKeyError, ""),
    ):
        scene.front.will(*replies)
        with pytest.raises(StoreError) as error:
            await scene.store.head("bucket", "k", "v1")
        assert (type(error.value), error.value.code) == (kind, code)
        assert not scene.front.replies
        assert {seen.target for seen in scene.front.seen} == {"/bucket/k?versionId=v1"}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(403, "InvalidObjectState"), ArchivedError),
        (refusal(403, "ObjectNotInActiveTierError"), ArchivedError),
        (NEEDS_KEY, CustomerKeyError),
        (refusal(405, "MethodNotAllowed", "", **{"x-amz-delete-marker": "true"}), NotFoundError),
        (refusal(405, "MethodNotAllowed"), StoreRefusedError),
        (refusal(404, "NoSuchVersion"), NotFoundError),
    ],
)
async def test_what_cannot_be_read_is_said_to(scene: Scene, reply: Reply, kind: type[StoreError]) -> None:
    for call in (scene.read, scene.copy):
        scene.front.will(reply)
        with pytest.raises(StoreError) as error:
            await call()
        assert type(error.value) is kind
        assert not error.value.repeatable


async def test_another_version_than_the_one_asked_for_is_never_taken(scene: Scene) -> None:
    for asked, said, right in (
        ("v1", "v2", False),
        ("v1", "v1", True),
        ("null", "v2", False),
        ("null", "null", True),
    ):
        scene.front.will(Reply(200, {**ETAG, "x-amz-version-id": said}, b"0123456789"))
        reading = scene.store.read("bucket", replace(V1, version_id=asked))
        if right:
            async with reading as stream:
                assert stream.head.version.version_id == asked
        else:
            with pytest.raises(PreconditionError):
                await reading.__aenter__()


async def test_a_copy_is_pinned_and_dressed_as_it_is_told(scene: Scene) -> None:
    result = Reply(200, {"x-amz-version-id": "v9"}, b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>")
    scene.front.will(result)

    written = await scene.store.copy(
        "bucket",
        "k",
        source_bucket="source",
        source=NULL,
        condition=IfAbsent(),
        under=UNDER,
        storage_class="STANDARD_IA",
        attributes=Attributes(storage_class="GLACIER", lock=ObjectLock(legal_hold=True)),
        lock=ObjectLock("GOVERNANCE", "2030-01-01T00:00:00Z"),
        claim=scene.claim,
    )

    assert written.version_id == "v9"
    (seen,) = scene.front.seen
    assert seen.headers["x-amz-copy-source"] == "source/k?versionId=null"
    assert seen.headers["x-amz-copy-source-if-match"] == '"abc"'
    assert seen.headers["x-amz-metadata-directive"] == "REPLACE"
    assert seen.headers["x-amz-storage-class"] == "STANDARD_IA"
    assert seen.headers["x-amz-object-lock-retain-until-date"] == "2030-01-01T00:00:00Z"
    assert "x-amz-object-lock-legal-hold" not in seen.headers, "the lock is given, not the attributes'"


async def test_pages_of_versions_that_contradict_one_another_are_an_error(scene: Scene) -> None:
    first = Reply(200, {}, page([(version("p/a", "v2"), True)], truncated=True))
    again = Reply(200, {}, page([(version("p/a", "v1"), True)]))
    scene.front.will(first, again)

    with pytest.raises(UnavailableError, match="isn't its first"):
        await scene.store.list_versions_page("bucket", "p/", limit=1)
