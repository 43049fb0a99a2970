"""Versions: each named and read by its id, none written or deleted but the one that is meant."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from rekeyd.domain.errors import NotFoundError, PreconditionError, StoreRefusedError
from rekeyd.domain.objects import Attributes, ByteSpan, ObjectVersion
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import OLDER_LEFT, DeleteOutcome, IfAbsent, IfMatches, Written
from tests.contract.stores.conftest import REGION, Stand


async def hide(stand: Stand, name: str, etag: str) -> Written:
    return await stand.store.hide(
        stand.bucket, stand.prefix + name, condition=IfMatches(etag), claim=stand.claim
    )


async def three_versions(stand: Stand, name: str = "a") -> tuple[Written, Written, Written]:
    """One, another over it, and a last one over a marker."""
    first = await stand.put(name, b"first", attributes=Attributes(tags={"number": "1"}))
    second = await stand.put(name, b"second one", condition=IfMatches(first.etag))
    await hide(stand, name, second.etag)
    return first, second, await stand.put(name, b"last")


async def delete(stand: Stand, *versions: ObjectVersion) -> list[DeleteOutcome]:
    return [*await stand.store.delete(stand.bucket, versions, claim=stand.claim)]


@pytest.fixture
async def kept_before(stand: Stand) -> Stand:
    """The stand with `a` from before its bucket kept versions, and another version over it."""
    stand.bucket = f"made-{uuid.uuid4().hex[:12]}"
    await stand.control.create(stand.bucket, REGION, claim=stand.claim)
    before = await stand.put("a", b"before", attributes=Attributes(tags={"from": "before"}))
    await stand.control.enable_versioning(stand.bucket, claim=stand.claim)
    await stand.put("a", b"later", condition=IfMatches(before.etag))
    return stand


async def test_a_bucket_keeps_versions_from_its_beginning_or_from_now_on(stand: Stand) -> None:
    for names in ({"versioned": True}, {"object_lock": True}, {}):
        stand.bucket = f"made-{uuid.uuid4().hex[:12]}"
        for _ in range(2):
            await stand.control.create(stand.bucket, REGION, **names, claim=stand.claim)
        made = await stand.control.describe(stand.bucket)
        assert made is not None
        assert made.versioning == ("enabled" if names else "off")
        assert made.object_lock == ("object_lock" in names)

    await stand.control.create(stand.bucket, REGION, object_lock=True, claim=stand.claim)
    changed = await stand.control.describe(stand.bucket)
    assert changed is not None
    assert (changed.versioning, changed.object_lock) == ("enabled", True)


async def test_a_history_has_every_version_the_oldest_first(versioned: Stand) -> None:
    first = await versioned.put("a", b"first")
    second = await versioned.put("a", b"second one", condition=IfMatches(first.etag))

    key = versioned.prefix + "a"
    assert await versioned.history("a") == (
        ObjectVersion(key, 5, first.etag, first.version_id),
        ObjectVersion(key, 10, second.etag, second.version_id),
    )
    assert None not in (first.version_id, second.version_id)


async def test_a_marker_is_where_it_was_written(versioned: Stand) -> None:
    first = await versioned.put("a", b"first")
    marker = await hide(versioned, "a", first.etag)
    key = versioned.prefix + "a"
    old = (
        ObjectVersion(key, 5, first.etag, first.version_id),
        ObjectVersion(key, 0, "", marker.version_id, marker=True),
    )

    with versioned.guarantees("orders_markers"):
        assert await versioned.history("a") == old
        with pytest.raises(NotFoundError):
            await versioned.version("a")
        last = await versioned.put("a", b"last", condition=IfAbsent())
        assert await versioned.history("a") == (*old, ObjectVersion(key, 4, last.etag, last.version_id))


async def test_each_version_is_known_and_read_by_its_id(versioned: Stand) -> None:
    first, second, last = await three_versions(versioned)
    key = versioned.prefix + "a"

    for written, data in ((first, b"first"), (second, b"second one"), (last, b"last")):
        version = ObjectVersion(key, len(data), written.etag, written.version_id)
        head = await versioned.store.head(versioned.bucket, key, written.version_id)
        assert head.version == version
        assert await versioned.content(version) == data
        assert await versioned.content(version, ByteSpan(1, 3)) == data[1:3]
    assert (await versioned.version("a")).version_id == last.version_id
    tags = [
        await versioned.store.read_tags(versioned.bucket, ObjectVersion(key, 1, one.etag, one.version_id))
        for one in (first, second)
    ]
    assert tags == [{"number": "1"}, {}]


async def test_no_other_version_is_read_in_its_place(versioned: Stand) -> None:
    first = await versioned.put("a", b"first")
    marker = await hide(versioned, "a", first.etag)
    version = ObjectVersion(versioned.prefix + "a", 5, first.etag, first.version_id)

    with pytest.raises(PreconditionError):
        await versioned.content(replace(version, etag="0" * 32))
    with pytest.raises(NotFoundError):
        await versioned.content(replace(version, version_id=marker.version_id))
    with pytest.raises(NotFoundError):
        await versioned.store.head(versioned.bucket, version.key, marker.version_id)
    with pytest.raises(NotFoundError):
        await versioned.content(replace(version, version_id=None))
    await delete(versioned, version)
    with pytest.raises(NotFoundError):
        await versioned.content(version)


async def test_a_write_is_over_the_newest_version_only(versioned: Stand) -> None:
    first, second, last = await three_versions(versioned)

    for etag in (first.etag, second.etag):
        with pytest.raises(PreconditionError):
            await versioned.put("a", b"other", condition=IfMatches(etag))
    with pytest.raises(PreconditionError):
        await versioned.put("a", b"other", condition=IfAbsent())
    assert (await versioned.version("a")).version_id == last.version_id


async def test_an_upload_is_over_the_newest_version_only(versioned: Stand) -> None:
    first = await versioned.put("a", b"first")
    key = versioned.prefix + "a"
    second = await versioned.put("a", b"second", condition=IfMatches(first.etag))

    upload = await versioned.store.begin_upload(
        versioned.bucket, key, Attributes(), under=versioned.under, claim=versioned.claim
    )
    part = await versioned.store.put_part(upload, 1, BytesContent(b"parts"), claim=versioned.claim)
    with versioned.guarantees("conditional_versions"):
        with pytest.raises(PreconditionError):
            await versioned.store.complete_upload(
                upload, [part], condition=IfMatches(first.etag), crc64nvme=None, claim=versioned.claim
            )
        written = await versioned.store.complete_upload(
            upload, [part], condition=IfMatches(second.etag), crc64nvme=None, claim=versioned.claim
        )
        ids = [one.version_id for one in await versioned.history("a")]
        assert ids == [first.version_id, second.version_id, written.version_id]


async def test_an_older_version_is_copied_by_its_id(versioned: Stand) -> None:
    first, second, _ = await three_versions(versioned)
    source = ObjectVersion(versioned.prefix + "a", 5, first.etag, first.version_id)

    copied = await versioned.store.copy(
        versioned.bucket,
        versioned.prefix + "copy",
        source_bucket=versioned.bucket,
        source=source,
        condition=IfAbsent(),
        under=versioned.under,
        claim=versioned.claim,
    )

    assert copied.version_id is not None
    copy = ObjectVersion(versioned.prefix + "copy", 5, copied.etag, copied.version_id)
    assert await versioned.content(copy) == b"first"
    assert await versioned.store.read_tags(versioned.bucket, copy) == {"number": "1"}
    with versioned.guarantees("pinned_copy"), pytest.raises(PreconditionError):
        await versioned.store.copy(
            versioned.bucket,
            versioned.prefix + "other",
            source_bucket=versioned.bucket,
            source=replace(source, etag=second.etag),
            condition=IfAbsent(),
            under=versioned.under,
            claim=versioned.claim,
        )


async def test_a_part_is_made_of_an_older_version(versioned: Stand) -> None:
    first, _, _ = await three_versions(versioned)
    key = versioned.prefix + "parts"
    upload = await versioned.store.begin_upload(
        versioned.bucket, key, Attributes(), under=None, claim=versioned.claim
    )

    part = await versioned.store.copy_part(
        upload,
        1,
        source_bucket=versioned.bucket,
        source=ObjectVersion(versioned.prefix + "a", 5, first.etag, first.version_id),
        span=ByteSpan(1, 4),
        claim=versioned.claim,
    )
    written = await versioned.store.complete_upload(
        upload, [part], condition=IfAbsent(), crc64nvme=None, claim=versioned.claim
    )

    assert await versioned.content(ObjectVersion(key, 3, written.etag, written.version_id)) == b"irs"


async def test_a_copy_takes_other_attributes_where_they_are_given(versioned: Stand) -> None:
    old = Attributes({"cache-control": "no-store"}, {"old": "1"}, {"old": "1"})
    new = Attributes({"content-type": "text/plain", "content-language": "de"}, {"new": "2"}, {"new": "2"})
    await versioned.put("a", b"data", attributes=old)

    await versioned.store.copy(
        versioned.bucket,
        versioned.prefix + "copy",
        source_bucket=versioned.bucket,
        source=await versioned.version("a"),
        condition=IfAbsent(),
        under=versioned.under,
        attributes=new,
        claim=versioned.claim,
    )

    head = await versioned.store.head(versioned.bucket, versioned.prefix + "copy")
    assert (head.attributes.headers, head.attributes.metadata) == (new.headers, new.metadata)
    assert await versioned.store.read_tags(versioned.bucket, head.version) == new.tags
    assert await versioned.content(head.version) == b"data"


async def test_only_the_current_version_is_hidden(versioned: Stand) -> None:
    first = await versioned.put("a", b"first")
    second = await versioned.put("a", b"second", condition=IfMatches(first.etag))

    with pytest.raises(PreconditionError):
        await hide(versioned, "a", first.etag)
    assert len(await versioned.history("a")) == 2

    marker = await hide(versioned, "a", second.etag)
    assert (marker.version_id is not None, marker.etag) == (True, "")
    # AWS' documents leave open what comes of these. The port leaves it open, too.
    for name, etag in (("a", second.etag), ("absent", second.etag)):
        with pytest.raises(PreconditionError):
            await hide(versioned, name, etag)
    version = ObjectVersion(versioned.prefix + "a", 6, second.etag, second.version_id)
    assert await versioned.content(version) == b"second"


async def test_hiding_where_no_versions_are_kept_says_what_it_did(stand: Stand) -> None:
    written = await stand.put("a")

    with pytest.raises(StoreRefusedError, match="no marker") as error:
        await hide(stand, "a", written.etag)

    assert error.value.outcome_unknown


async def test_versions_and_markers_are_deleted_by_their_ids(versioned: Stand) -> None:
    first = await versioned.put("a", b"first")
    marker = await hide(versioned, "a", first.etag)
    last = await versioned.put("a", b"last")
    await versioned.put("b", b"stays")
    key = versioned.prefix + "a"
    chain = (
        ObjectVersion(key, 5, first.etag, first.version_id),
        ObjectVersion(key, 0, "", marker.version_id, marker=True),
        ObjectVersion(key, 4, last.etag, last.version_id),
    )

    for _ in range(2):
        outcomes = await delete(versioned, *chain)
        assert [outcome.version for outcome in outcomes] == [*chain]
        assert {outcome.result for outcome in outcomes} == {"deleted"}
    assert [one.key for one in await versioned.histories()] == [versioned.prefix + "b"]


async def test_deleting_the_marker_brings_back_what_it_hid(versioned: Stand) -> None:
    first = await versioned.put("a", b"first")
    marker = await hide(versioned, "a", first.etag)
    key = versioned.prefix + "a"

    await delete(versioned, ObjectVersion(key, 0, "", marker.version_id, marker=True))

    assert await versioned.version("a") == ObjectVersion(key, 5, first.etag, first.version_id)


async def test_many_histories_are_deleted_in_one_call(versioned: Stand) -> None:
    names = ("a", "b c", "d+e", "ü", "n/m", "t\ttab")
    for name in names:
        first = await versioned.put(name, b"1")
        await versioned.put(name, b"2", condition=IfMatches(first.etag))
    chains = [one.chain for one in await versioned.histories()]

    outcomes = await delete(versioned, *(one for chain in chains for one in chain), *chains[0])

    assert len(outcomes) == 2 * len(names) + 2
    assert {outcome.result for outcome in outcomes} == {"deleted"}
    assert await versioned.histories() == []


async def test_without_an_id_a_version_is_hidden_at_most_and_that_is_said(versioned: Stand) -> None:
    versions = []
    for name in ("a", "b"):
        written = await versioned.put(name, b"data")
        versions.append(ObjectVersion(versioned.prefix + name, 4, written.etag))

    for batch in ([versions[0]], versions):
        outcomes = await delete(versioned, *batch)
        assert outcomes[-1].result == "failed"
        assert "only hidden" in outcomes[-1].detail


async def test_what_was_kept_before_versioning_is_null_and_read_as_such(kept_before: Stand) -> None:
    stand = kept_before
    null, later = await stand.history("a")
    assert (null.version_id, null.size_bytes) == ("null", 6)
    assert later.version_id not in ("null", None)

    head = await stand.store.head(stand.bucket, null.key, "null")
    assert head.version == null
    assert await stand.content(null) == b"before"
    assert await stand.store.read_tags(stand.bucket, null) == {"from": "before"}
    with pytest.raises(PreconditionError):
        await stand.content(replace(null, etag=later.etag))


async def test_null_is_deleted_if_it_is_the_very_one(kept_before: Stand) -> None:
    stand = kept_before
    null, later = await stand.history("a")

    outcomes = await delete(stand, replace(null, etag=later.etag), later)
    assert [outcome.result for outcome in outcomes] == ["changed", "failed"]
    assert outcomes[1].detail == OLDER_LEFT
    outcomes = await delete(stand, replace(null, etag="", size_bytes=0, marker=True))
    assert [outcome.result for outcome in outcomes] == ["changed"]
    assert await stand.history("a") == (null, later)

    for _ in range(2):
        assert [outcome.result for outcome in await delete(stand, null)] == ["deleted"]
    assert await stand.history("a") == (later,)


async def test_a_bucket_that_never_kept_versions_lists_all_as_null(stand: Stand) -> None:
    await stand.put("a", b"data")
    version = await stand.version("a")
    assert version.version_id is None

    assert await stand.history("a") == (replace(version, version_id="null"),)
