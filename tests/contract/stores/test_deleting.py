"""Deletes: exactly the versions that are named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.domain.errors import ClaimLostError, NotFoundError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.port import IfMatches
from tests.contract.stores.conftest import Stand
from tests.doubles.claim import Claim

NAMES = ("a", "b c", "d+e", "ü", "q<>&\"'", "t\ttab", "n/m", "ctrl\x01")


async def test_what_is_named_is_deleted_and_nothing_else(stand: Stand) -> None:
    for name in (*NAMES, "stays"):
        await stand.put(name)
    versions = [await stand.version(name) for name in NAMES]

    outcomes = await stand.store.delete(stand.bucket, versions, claim=stand.claim)

    assert [outcome.version for outcome in outcomes] == versions
    assert {outcome.result for outcome in outcomes} == {"deleted"}
    assert [listed.key for listed in await stand.listed()] == [stand.prefix + "stays"]


@pytest.mark.parametrize("count", [1, 3])
async def test_the_request_that_deleted_is_named(stand: Stand, count: int) -> None:
    names = [f"named{number}" for number in range(count)]
    for name in names:
        await stand.put(name)
    versions = [await stand.version(name) for name in names]

    outcomes = await stand.store.delete(stand.bucket, versions, claim=stand.claim)

    with stand.guarantees("names_requests"):
        assert all(outcome.request_id for outcome in outcomes)
    assert " " not in "".join(outcome.request_id for outcome in outcomes), "the ledger keeps them in one text"


@pytest.mark.parametrize("count", [1, 3])
async def test_a_version_that_was_replaced_stays(stand: Stand, count: int) -> None:
    names = [f"a{number}" for number in range(count)]
    for name in names:
        await stand.put(name, b"first")
    versions = [await stand.version(name) for name in names]
    await stand.put("a0", b"other", condition=IfMatches(versions[0].etag))

    outcomes = await stand.store.delete(stand.bucket, versions, claim=stand.claim)

    assert [outcome.result for outcome in outcomes] == ["changed", "deleted", "deleted"][:count]
    assert await stand.content(await stand.version("a0")) == b"other"
    for name in names[1:]:
        with pytest.raises(NotFoundError):
            await stand.version(name)


@pytest.mark.parametrize("count", [1, 3])
async def test_what_is_gone_counts_as_deleted(stand: Stand, count: int) -> None:
    versions = [ObjectVersion(f"{stand.prefix}gone{number}", 1, "0" * 32) for number in range(count)]

    for _ in range(2):
        outcomes = await stand.store.delete(stand.bucket, versions, claim=stand.claim)
        assert [outcome.result for outcome in outcomes] == ["deleted"] * count


async def test_another_etag_deletes_nothing(stand: Stand) -> None:
    await stand.put("a")
    version = await stand.version("a")

    outcomes = await stand.store.delete(stand.bucket, [replace(version, etag="0" * 32)], claim=stand.claim)

    assert [outcome.result for outcome in outcomes] == ["changed"]
    assert [replace(listed, modified=None) for listed in await stand.listed()] == [version]


async def test_nothing_to_delete_is_no_request(stand: Stand) -> None:
    assert list(await stand.store.delete(stand.bucket, [], claim=stand.claim)) == []


async def test_a_thousand_are_the_most(stand: Stand) -> None:
    versions = [ObjectVersion(f"{stand.prefix}{number}", 1, "0" * 32) for number in range(1001)]

    with pytest.raises(ValueError, match="1000"):
        await stand.store.delete(stand.bucket, versions, claim=stand.claim)


async def test_nothing_is_deleted_after_the_claim(stand: Stand) -> None:
    await stand.put("a")
    version = await stand.version("a")

    with pytest.raises(ClaimLostError):
        await stand.store.delete(stand.bucket, [version], claim=Claim(seconds=-1))

    assert [replace(listed, modified=None) for listed in await stand.listed()] == [version]
