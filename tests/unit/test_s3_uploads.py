"""All unfinished uploads are listed, or it is said that they are too many: a part is never given for the whole."""

from __future__ import annotations

import pytest

from rekeyd.domain.errors import StoreRefusedError
from rekeyd.domain.objects import Attributes
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.memory import store as memory
from rekeyd.stores.s3 import store as s3
from tests.doubles.claim import Claim
from tests.doubles.front import Reply
from tests.unit.test_s3_weather import scene_with

PAGE = 1000


def pages(count: int) -> list[Reply]:
    """So many uploads as S3 lists them, a thousand a page ("ListMultipartUploads", Amazon S3 API Reference)."""
    numbers = list(range(count))
    found = [numbers[first : first + PAGE] for first in range(0, count, PAGE)]
    return [Reply(body=page(each, last=each is found[-1])) for each in found]


def page(numbers: list[int], *, last: bool) -> bytes:
    uploads = "".join(
        f"<Upload><Key>k/{each:06}</Key><UploadId>u{each}</UploadId></Upload>" for each in numbers
    )
    more = (
        "<IsTruncated>false</IsTruncated>"
        if last
        else f"<IsTruncated>true</IsTruncated><NextKeyMarker>k/{numbers[-1]:06}</NextKeyMarker>"
        f"<NextUploadIdMarker>u{numbers[-1]}</NextUploadIdMarker>"
    )
    return f"<ListMultipartUploadsResult>{more}{uploads}</ListMultipartUploadsResult>".encode()


async def test_more_than_ten_thousand_are_all_listed() -> None:
    async with scene_with() as scene:
        scene.front.will(*pages(10_001))

        found = await scene.store.list_uploads("bucket", "k/")

        assert [each.upload_id for each in found] == [f"u{number}" for number in range(10_001)]


@pytest.mark.parametrize("last", [False, True])
async def test_what_is_too_much_to_be_listed_is_an_error(
    monkeypatch: pytest.MonkeyPatch, *, last: bool
) -> None:
    monkeypatch.setattr(s3, "UPLOADS_MAX", 2000)
    async with scene_with() as scene:
        scene.front.will(*pages(2001 if last else 5000))

        with pytest.raises(StoreRefusedError, match=r"over 2000 unfinished uploads in bucket: abort"):
            await scene.store.list_uploads("bucket", "k/")

        assert len(scene.front.seen) == 3


async def test_as_many_as_there_may_be_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "UPLOADS_MAX", 2000)
    async with scene_with() as scene:
        scene.front.will(*pages(2000))

        assert len(await scene.store.list_uploads("bucket", "k/")) == 2000


async def test_the_store_in_memory_says_so_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "UPLOADS_MAX", 1)
    shelf = Shelf()
    shelf.make_bucket("bucket")
    store, claim = MemoryStore(shelf), Claim()
    await begin(store, claim, "k/a")
    assert len(await store.list_uploads("bucket", "")) == 1
    await begin(store, claim, "k/b")
    with pytest.raises(StoreRefusedError, match="over 1 unfinished"):
        await store.list_uploads("bucket", "")
    assert len(await store.list_uploads("bucket", "k/b")) == 1


async def begin(store: MemoryStore, claim: Claim, key: str) -> None:
    await store.begin_upload("bucket", key, Attributes(), under=None, claim=claim)
