"""Listings: complete, resumable, under the very keys."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rekeyd.domain.errors import StoreError, StoreRefusedError
from rekeyd.domain.objects import Attributes
from rekeyd.stores.port import IfMatches
from tests.contract.stores.conftest import Stand

NAMES = ("a", "a/x", "a/y/z", "a b", "a-b", "a.txt", "a0", "b", "ü", "n\nn", "e\x01", "%2F", "+", " ")


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_pages_give_every_object_once(stand: Stand, limit: int) -> None:
    names = [name for name in NAMES if stand.kind != "moto" or "\n" not in name]
    for name in names:
        await stand.put(name)

    found = await stand.listed(limit=limit)

    assert sorted(listed.key for listed in found) == sorted(stand.prefix + name for name in names)
    assert {listed.size_bytes for listed in found} == {4}
    heads = [(await stand.store.head(stand.bucket, listed.key)).version for listed in found]
    assert heads == [replace(listed, modified=None) for listed in found]
    assert all(listed.modified for listed in found)
    with stand.guarantees("byte_order"):
        assert [listed.key for listed in found] == sorted((one.key for one in found), key=str.encode)


async def test_a_cursor_goes_on_where_it_was_given(stand: Stand) -> None:
    for number in range(10):
        await stand.put(f"{number}")
    first = await stand.store.list_page(stand.bucket, stand.prefix, limit=4)
    await stand.put("00 came later")
    await stand.store.delete(stand.bucket, first.objects, claim=stand.claim)

    second = await stand.store.list_page(stand.bucket, stand.prefix, after=first.resume_after, limit=4)

    assert [listed.key for listed in second.objects] == [f"{stand.prefix}{n}" for n in (4, 5, 6, 7)]


async def test_only_what_is_below_the_prefix_is_listed(stand: Stand) -> None:
    for name in ("x", "x/1", "x/2", "xy", "y/1"):
        await stand.put(name)

    assert {listed.key for listed in await stand.listed("x/")} == {
        stand.prefix + "x/1",
        stand.prefix + "x/2",
    }


async def test_nothing_is_an_empty_page(stand: Stand) -> None:
    page = await stand.store.list_page(stand.bucket, stand.prefix + "nothing/")

    assert page.objects == ()
    assert page.resume_after is None


async def test_a_cursor_of_somebody_else_is_refused(stand: Stand) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await stand.store.list_page(stand.bucket, stand.prefix, after="a")


async def test_what_was_written_and_deleted_shows_at_once(stand: Stand) -> None:
    for _ in range(10):
        await stand.put("a")
        version = await stand.version("a")
        assert [replace(listed, modified=None) for listed in await stand.listed()] == [version]
        await stand.store.delete(stand.bucket, [version], claim=stand.claim)
        assert await stand.listed() == []


async def test_what_is_put_again_has_another_time_of_modification(stand: Stand) -> None:
    """Its ETag may be the same: where it is an MD5, the same bytes with other metadata keep it."""
    await stand.put("a", attributes=Attributes(metadata={"held": "no"}))
    await stand.put("b")
    before = await stand.listed()
    assert await stand.listed() == before
    if stand.kind != "memory":
        await asyncio.sleep(1.1)  # S3 lists whole seconds

    etag = (await stand.version("a")).etag
    await stand.put("a", attributes=Attributes(metadata={"held": "yes"}), condition=IfMatches(etag))

    changed, unchanged = await stand.listed()
    assert changed.modified not in (None, before[0].modified)
    assert unchanged == before[1]


ODD = st.text(
    st.one_of(
        st.sampled_from("/.%+ \\?#&=:;,@<>\"'*~\x00\x01\x1f\x7f\n\r\tüé\u0301\u2028\ufffd\U0001f600"),
        st.characters(exclude_categories=["Cs"]),
    ),
    min_size=1,
    max_size=12,
)
LEADING = st.sampled_from(["", "", "/", "//", "./", "../", "a//", "%2F"])


async def keeps(stand: Stand, key: str) -> bool:
    """Put a key. True where it came back as it is, False where it was refused."""
    data = uuid.uuid4().bytes
    try:
        await stand.put(key, data)
    except StoreError:
        return False
    # The whole of the prefix: SeaweedFS lists a rewritten key as it was asked for.
    (listed,) = await stand.listed()
    assert listed.key == stand.prefix + key
    assert await stand.content(listed) == data
    return True


@pytest.mark.parametrize(
    "key", ["/lead", "a//b", "a/", "./x", "../y", "%2F", "+", "é", "e\u0301", "\x01", "b\\s"]
)
async def test_the_known_odd_keys_come_back_or_are_refused(stand: Stand, key: str) -> None:
    refused = {"seaweedfs": {"/lead", "a//b", "a/", "./x", "../y", "b\\s"}}.get(stand.kind, set())

    assert await keeps(stand, key) == (key not in refused)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(leading=LEADING, name=ODD)
async def test_any_key_comes_back_or_is_refused(stand: Stand, leading: str, name: str) -> None:
    stand.prefix = f"{uuid.uuid4().hex}/"
    kept = await keeps(stand, leading + name)

    if stand.kind == "memory":
        assert kept


async def test_a_key_without_utf_8_is_refused(stand: Stand) -> None:
    with pytest.raises(StoreRefusedError):
        await stand.put("\udcff")


async def test_a_key_that_is_too_long_is_refused(stand: Stand) -> None:
    with stand.guarantees("limits_keys"), pytest.raises(StoreRefusedError):
        await stand.put("x" * 1025)
