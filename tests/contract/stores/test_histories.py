"""Listings of histories: complete, resumable, each on one page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import pytest

from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.port import HISTORY_VERSIONS_MAX, IfMatches
from tests.contract.stores.conftest import Stand

NAMES = (
    "a",
    "a/b",
    "a-b",
    "a b",
    "a.b",
    "a/b/c",
    "b",
    "ü",
    "x+y",
    "x%2Fy",
    "x%y",
    "q<&>",
    "t\tb",
    "\U0001f600",
)
AT_ONCE = 16


async def write(stand: Stand, names: Sequence[str], versions: int = 1) -> dict[str, list[str | None]]:
    """Write keys with so many versions each; their ids, the oldest first.

    `a` before `a/b`: to SeaweedFS it isn't absent once the folder is there.
    """
    free = asyncio.Semaphore(AT_ONCE)
    ids: dict[str, list[str | None]] = {}

    async def one(name: str) -> None:
        async with free:
            written = await stand.put(name, b"0")
            ids[name] = [written.version_id]
            for number in range(1, versions):
                written = await stand.put(name, b"%d" % number, condition=IfMatches(written.etag))
                ids[name].append(written.version_id)

    for depth in range(max(name.count("/") for name in names) + 1):
        await asyncio.gather(*(one(name) for name in names if name.count("/") == depth))
    return ids


def shown(stand: Stand, histories: Sequence[ObjectVersion]) -> list[tuple[str, list[str | None]]]:
    return [
        (one.key.removeprefix(stand.prefix), [each.version_id for each in one.chain]) for one in histories
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 1000])
async def test_pages_give_every_history_once_and_whole(versioned: Stand, limit: int) -> None:
    ids = await write(versioned, NAMES, versions=3)

    found = await versioned.histories(limit=limit)

    assert shown(versioned, found) == sorted(ids.items(), key=lambda item: item[0].encode())
    assert {each.size_bytes for one in found for each in one.chain} == {1}


async def test_only_what_is_below_the_prefix_is_listed(versioned: Stand) -> None:
    await write(versioned, ("x", "x/1", "x/2", "xy", "x-", "y/1"))

    assert [one.key for one in await versioned.histories("x/")] == [
        versioned.prefix + "x/1",
        versioned.prefix + "x/2",
    ]


async def test_nothing_is_an_empty_page(versioned: Stand) -> None:
    page = await versioned.store.list_versions_page(versioned.bucket, versioned.prefix + "nothing/")

    assert (page.histories, page.resume_after, page.too_long) == ((), None, ())


async def test_more_than_a_store_gives_at_once_is_listed_whole(versioned: Stand) -> None:
    """Names as backups have them, some of which begin others: what a walk through folders would leave out."""
    names = [
        *(f"backup-{number:03d}" for number in range(500)),
        *(f"plan/2026-01-{number:03d}/x" for number in range(600)),
        *("backup", "backup-100-b", "plan", "plan/2026", "plan/2026-01", "plan-b", "plan/2026-01-599"),
        *("backup/1", "backup.1", "backup-499 b"),
    ]
    ids = await write(versioned, names, versions=1)
    for name in ("backup", "plan/2026-01", "plan/2026-01-300/x"):
        written = await versioned.put(name, b"2", condition=IfMatches((await versioned.version(name)).etag))
        ids[name].append(written.version_id)

    found = await versioned.histories()

    assert shown(versioned, found) == sorted(ids.items(), key=lambda item: item[0].encode())


async def test_a_history_that_is_too_long_is_named_and_the_others_are_listed(versioned: Stand) -> None:
    ids = await write(versioned, ("a", "c"), versions=2)
    await write(versioned, ("b",), versions=HISTORY_VERSIONS_MAX + 1)

    histories: list[ObjectVersion] = []
    too_long: list[str] = []
    after = None
    with versioned.guarantees("resumes_anywhere"):
        for _ in range(10):
            page = await versioned.store.list_versions_page(versioned.bucket, versioned.prefix, after=after)
            histories += page.histories
            too_long += page.too_long
            after = page.resume_after
            if after is None:
                break
        assert too_long == [versioned.prefix + "b"]
        assert shown(versioned, [replace(one, modified=None) for one in histories]) == sorted(ids.items())


async def test_a_cursor_goes_on_where_it_was_given(versioned: Stand) -> None:
    await write(versioned, [str(number) for number in range(6)], versions=2)
    first = await versioned.store.list_versions_page(versioned.bucket, versioned.prefix, limit=4)
    count = len(first.histories)
    assert count in (1, 2), "a history that could go on is left to the next page"
    await versioned.put("!came later")

    async def second() -> list[str]:
        page = await versioned.store.list_versions_page(
            versioned.bucket, versioned.prefix, after=first.resume_after, limit=1000
        )
        return [one.key for one in page.histories]

    following = [f"{versioned.prefix}{number}" for number in range(count, 6)]
    assert await second() == following
    for gone in first.histories:
        await versioned.store.delete(versioned.bucket, gone.chain, claim=versioned.claim)
    with versioned.guarantees("resumes_anywhere"):
        assert await second() == following


async def test_a_cursor_of_somebody_else_is_refused(versioned: Stand) -> None:
    for cursor in ("a", "key:a", "token:a", ""):
        with pytest.raises(ValueError, match=r".+"):
            await versioned.store.list_versions_page(versioned.bucket, versioned.prefix, after=cursor)


async def test_a_key_that_xml_cannot_hold_is_listed_or_the_listing_is_refused(versioned: Stand) -> None:
    ids = await write(versioned, ("ctrl\x01",), versions=2)

    with versioned.guarantees("lists_odd_keys"):
        assert shown(versioned, await versioned.histories()) == [*ids.items()]


async def test_readers_see_the_current_versions_and_no_others(versioned: Stand) -> None:
    names = ("a", "a-b", "a.b", "a/b", "b", "hidden")
    ids = await write(versioned, names, versions=2)
    version = await versioned.version("hidden")
    await versioned.store.hide(
        versioned.bucket, version.key, condition=IfMatches(version.etag), claim=versioned.claim
    )

    for limit in (1000, 1, 2):
        listed = await versioned.listed(limit=limit)
        assert {one.version_id for one in listed} == {None}
        with versioned.guarantees("lists_current") if limit < len(ids) else nullcontext():
            assert sorted(one.key.removeprefix(versioned.prefix) for one in listed) == sorted(
                {*ids} - {"hidden"}
            )
