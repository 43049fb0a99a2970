"""Histories put together of pages that end anywhere, from stores that list in two ways."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rekeyd.domain.errors import StoreRefusedError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.port import HISTORY_VERSIONS_MAX, VersionsPage
from rekeyd.stores.s3.histories import Cursor, ordered_page
from rekeyd.stores.s3.version_pages import VersionsAnswered, VersionsAsked
from rekeyd.stores.s3.walking import WalkedListing
from rekeyd.stores.s3.xml import MalformedAnswer
from tests.doubles.versions import ListedStore, Way, history

PREFIX = "p/"
# Characters below `.`, at it, at `/` and above: what orders keys and folders differently.
NAMES = ("a", "a-", "a-b", "a-b-", "a b", "a.b", "a.z", "ab", "A", "ü", "a\x01")
LEAST_ENTRIES = 5  # on a page: so many folders can begin one another here, and one more is seen
keys = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda names: PREFIX + "/".join(names))


@st.composite
def histories(draw: st.DrawFn) -> list[ObjectVersion]:
    """Each key has a version with an id; one from before versioning may lie beneath, a marker on top."""
    return [
        history(
            key,
            *(f"v{number}" for number in range(draw(st.integers(1, 5)), 0, -1)),
            *(["null"] if draw(st.booleans()) else []),
            marked=draw(st.booleans()),
        )
        for key in draw(st.sets(keys, max_size=12))
    ]


async def one_page(store: ListedStore, after: Cursor, limit: int, prefix: str = PREFIX) -> VersionsPage:
    if store.way == "ordered":
        return await ordered_page(store.ask, prefix, after, limit)
    return await WalkedListing(store.ask, store.entries_max).page(prefix, after, limit)


async def all_pages(store: ListedStore, limit: int, prefix: str = PREFIX) -> list[VersionsPage]:
    pages: list[VersionsPage] = []
    after = Cursor()
    while len(pages) < 1000:
        pages.append(await one_page(store, after, limit, prefix))
        resume = pages[-1].resume_after
        if resume is None:
            return pages
        after = Cursor.parse(resume)
    raise AssertionError("a listing without an end")


@pytest.mark.parametrize("way", ["ordered", "walked"])
@settings(deadline=None, max_examples=400)
@given(histories=histories(), entries_max=st.integers(LEAST_ENTRIES, 12), limit=st.integers(1, 6))
async def test_pages_hold_each_history_once_and_whole(
    way: Way, histories: list[ObjectVersion], entries_max: int, limit: int
) -> None:
    if way == "walked":
        # XML can't hold it, and this way of listing encodes nothing.
        histories = [one for one in histories if "\x01" not in one.key]
    store = ListedStore(histories, way, entries_max)

    pages = await all_pages(store, limit)

    listed = [one for page in pages for one in page.histories]
    assert listed == sorted(histories, key=lambda one: one.key.encode())
    assert not any(page.too_long for page in pages)


@settings(deadline=None)
@given(histories=histories(), entries_max=st.integers(LEAST_ENTRIES, 12))
async def test_nothing_outside_of_the_prefix_is_listed(
    histories: list[ObjectVersion], entries_max: int
) -> None:
    seen = [one for one in histories if "\x01" not in one.key]
    store = ListedStore(seen, "walked", entries_max)

    pages = await all_pages(store, 1000, f"{PREFIX}a/")

    listed = [one.key for page in pages for one in page.histories]
    assert listed == sorted(one.key for one in seen if one.key.startswith(f"{PREFIX}a/"))


@pytest.mark.parametrize("way", ["ordered", "walked"])
async def test_a_history_is_as_long_as_allowed_and_no_longer(way: Way) -> None:
    def long(key: str, size: int) -> ObjectVersion:
        return history(key, *(f"v{number}" for number in range(size, 0, -1)))

    kept = [history("p/a", "v1"), long("p/b", HISTORY_VERSIONS_MAX), history("p/e", "v1")]
    store = ListedStore(
        [*kept, long("p/c", HISTORY_VERSIONS_MAX + 1), long("p/d", 2 * HISTORY_VERSIONS_MAX + 1)], way, 700
    )

    pages = await all_pages(store, 700)

    assert [one for page in pages for one in page.histories] == kept
    assert [key for page in pages for key in page.too_long] == ["p/c", "p/d"]


async def test_a_walk_whose_folders_do_not_answer_is_refused() -> None:
    store = ListedStore([history("p/a", "v1"), history("p/a-b", "v1")], "walked", 1, folders_answer=False)

    with pytest.raises(StoreRefusedError, match="may lack versions"):
        await all_pages(store, 1000)


async def test_a_walk_past_objects_from_before_versioning_alone_is_refused() -> None:
    store = ListedStore([history("p/a/b", "null"), history("p/a/c", "null")], "walked", 1)

    with pytest.raises(StoreRefusedError, match="may lack versions"):
        await all_pages(store, 1000)


async def test_a_walk_past_more_folders_that_begin_one_another_than_a_page_holds_is_refused() -> None:
    names = ("a/x", "a-/x", "a--/x", "a--+")
    store = ListedStore([history(f"p/{name}", "v1") for name in names], "walked", 2)

    with pytest.raises(StoreRefusedError, match="may lack versions"):
        await all_pages(store, 1000)


async def test_a_walk_that_comes_to_its_end_asks_once() -> None:
    histories = [history("p/a", "v2", "v1"), history("p/ab", "v1"), history("p/b/c", "null")]
    store = ListedStore(histories, "walked", 1000)

    pages = await all_pages(store, 1)

    assert [[one.key for one in page.histories] for page in pages] == [["p/a"], ["p/ab"], ["p/b/c"]]
    assert len(store.asked) == len(pages)


@settings(deadline=None)
@given(histories=histories(), entries_max=st.integers(LEAST_ENTRIES, 12))
async def test_a_walk_through_a_store_that_lists_in_order_is_right_or_refused(
    histories: list[ObjectVersion], entries_max: int
) -> None:
    store = ListedStore(histories, "ordered", entries_max)
    after = Cursor()
    listed: list[ObjectVersion] = []
    try:
        while True:
            page = await WalkedListing(store.ask, entries_max).page(PREFIX, after, 1000)
            listed += page.histories
            if page.resume_after is None:
                break
            after = Cursor.parse(page.resume_after)
    except StoreRefusedError:
        return
    assert listed == sorted(histories, key=lambda one: one.key)


async def test_what_is_written_behind_a_walk_is_not_walked_to_again() -> None:
    written = [history(f"p/{name}", "v1") for name in ("a/1", "a/2", "b", "c/1", "c/2", "c/3")]
    store = ListedStore(written, "ordered", 3)
    before = Cursor("p/a/2", "v1")

    async def ask(asked: VersionsAsked) -> VersionsAnswered:
        answered = await store.ask(asked)
        if asked.prefix == "p/a/":
            store.write(history("p/a/3", "v1"))
        return answered

    page = await WalkedListing(ask, 3).page("p/", before, 1000)

    assert [one.key for one in page.histories] == ["p/b"]


async def test_a_page_that_begins_before_its_cursor_is_no_page() -> None:
    store = ListedStore([history("p/a", "v2", "v1")], "ordered", 1000)

    with pytest.raises(MalformedAnswer, match="comes again"):
        await ordered_page(store.ask, "p/", Cursor("p/a", "v2"), 1000)


@given(st.text(), st.text())
def test_a_cursor_is_read_as_it_was_kept(key: str, version_id: str) -> None:
    assert Cursor.parse(str(Cursor(key, version_id))) == Cursor(key, version_id)


@pytest.mark.parametrize(
    "text", ["", "after", "after:", "after:{}", 'after:["a"]', "after:[1, 2]", "key:a", "token:a"]
)
def test_what_no_listing_gave_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Cursor.parse(text)
