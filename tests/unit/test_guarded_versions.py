"""What is asked about versions goes through the guards like everything else."""

from __future__ import annotations

import asyncio

import pytest

from rekeyd.domain.errors import ArchivedError, CustomerKeyError, UnavailableError
from rekeyd.domain.objects import Attributes
from rekeyd.stores.content import BytesContent
from rekeyd.stores.guarded import Guards
from rekeyd.stores.guarded.metering import outcome_of
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.port import IfAbsent, IfMatches
from tests.doubles.claim import Claim
from tests.doubles.faulty import FaultyStore, Script


class Counts:
    """A meter that keeps what it is told of."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def observe(self, store: str, operation: str, outcome: str, seconds: float) -> None:
        self.seen.append((operation, outcome))


async def no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


async def test_histories_and_markers_are_metered_and_retried() -> None:
    shelf, script, counts, claim = Shelf(), Script(), Counts(), Claim()
    shelf.make_bucket("bucket", versioned=True)
    guards = Guards.of("s3", counts, clock=lambda: 0.0, jitter=lambda: 0.0, sleep=no_wait)
    store = guards.store(FaultyStore(MemoryStore(shelf), script))
    written = await store.put(
        "bucket",
        "k",
        BytesContent(b"data"),
        Attributes(),
        condition=IfAbsent(),
        under=None,
        crc64nvme=None,
        claim=claim,
    )
    script.on("list_versions_page").fails(UnavailableError)
    script.on("hide").fails(UnavailableError)

    marker = await store.hide("bucket", "k", condition=IfMatches(written.etag), claim=claim)
    page = await store.list_versions_page("bucket", "")

    assert [one.version_id for one in page.histories[0].chain] == [written.version_id, marker.version_id]
    assert counts.seen[1:] == [
        ("hide", "unavailable"),
        ("hide", "ok"),
        ("list_versions", "unavailable"),
        ("list_versions", "ok"),
    ]


@pytest.mark.parametrize(
    ("error", "word"),
    [(ArchivedError("read", ""), "archived"), (CustomerKeyError("read", ""), "refused")],
)
def test_what_cannot_be_read_has_a_word(error: Exception, word: str) -> None:
    assert outcome_of(error) == word
