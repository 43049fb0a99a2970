"""Before a copy is dropped its source is asked: a listing may leave a key out by error."""

from __future__ import annotations

import pytest

from rekeyd.domain.errors import NotFoundError
from rekeyd.domain.objects import Attributes, Location, ObjectVersion
from rekeyd.ledger.port import ObjectRow
from rekeyd.ledger.rows import Row, listed, recorded
from rekeyd.stores.content import BytesContent
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.port import IfAbsent
from rekeyd.transfer.retire import drop_copy
from rekeyd.transfer.route import Route
from tests.doubles.claim import Claim

SOURCE, TARGET = Location.parse("s3://shared/acme/"), Location.parse("s3://byok/")


def both_ends() -> tuple[MemoryStore, Route]:
    shelf = Shelf()
    for location in (SOURCE, TARGET):
        shelf.make_bucket(location.bucket)
    store = MemoryStore(shelf, name="s3")
    return store, Route(store, SOURCE, store, TARGET, "", target_checks_checksums=True, read_back=False)


async def put(store: MemoryStore, bucket: str, key: str) -> ObjectVersion:
    written = await store.put(
        bucket,
        key,
        BytesContent(b"content"),
        Attributes(),
        condition=IfAbsent(),
        under=None,
        crc64nvme=None,
        claim=Claim(),
    )
    return ObjectVersion(key, 7, written.etag, written.version_id)


async def vanished_row(store: MemoryStore) -> ObjectRow:
    source = await put(store, SOURCE.bucket, "acme/a")
    copy = await put(store, TARGET.bucket, "a")
    return ObjectRow(source, "vanished", 0, copy, (), None)


async def test_the_copy_of_what_is_gone_is_dropped() -> None:
    store, route = both_ends()
    row = await vanished_row(store)
    await store.delete(SOURCE.bucket, [row.source], claim=Claim())
    assert (await drop_copy(route, row, Claim())).state == "dropped"
    with pytest.raises(NotFoundError):
        await store.head(TARGET.bucket, "a")


async def test_the_copy_of_what_stands_is_kept_until_a_listing_settles_it() -> None:
    store, route = both_ends()
    row = await vanished_row(store)
    outcome = await drop_copy(route, row, Claim())
    assert outcome.state == "stale"
    assert (await store.head(TARGET.bucket, "a")).version == row.target

    kept = recorded("sweep", Row(row, segment_id=1), outcome)
    assert kept is not None
    assert (kept.state, kept.segment_id, kept.object.target) == ("stale", None, row.target)
    again = listed(kept, row.source)
    assert again is not None
    assert (again.row.state, again.joins, again.row.object.target) == ("listed", "carry", row.target)
