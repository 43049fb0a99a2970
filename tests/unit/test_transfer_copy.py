"""The four ways of copying: each whole or not at all, pinned to its source, conditional on its target."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rekeyd.domain.errors import (
    ClaimLostError,
    InterruptedTransferError,
    NotFoundError,
    PreconditionError,
    StoreError,
    StoreRefusedError,
    UnavailableError,
)
from rekeyd.domain.objects import Attributes, Checksum
from rekeyd.stores.port import IfAbsent, IfMatches
from rekeyd.transfer.checksum import crc64nvme
from rekeyd.transfer.copy import SourceChangedError, copy_object
from rekeyd.transfer.pace import ByteBudget
from tests.doubles.ends import DRESSED, KEY_ARN, MEBIBYTE, SOURCE, TARGET, Ends
from tests.doubles.faulty import Call
from tests.patience import HANG_SECONDS

SMALL = b"small"
LARGE = bytes(range(256)) * (11 * MEBIBYTE // 256)
WAYS = {
    "stream_whole": (False, SMALL, "put"),
    "stream_parts": (False, LARGE, "complete_upload"),
    "copy_whole": (True, SMALL, "copy"),
    "copy_parts": (True, LARGE, "complete_upload"),
}
every_way = pytest.mark.parametrize(("server_side", "data", "publishes"), WAYS.values(), ids=WAYS)
in_parts = pytest.mark.parametrize(
    ("server_side", "makes_part"), [(False, "put_part"), (True, "copy_part")], ids=["stream", "copy"]
)


@every_way
async def test_bytes_and_all_that_travels_along_arrive_under_the_key(
    server_side: bool, data: bytes, publishes: str
) -> None:
    ends = Ends(server_side)
    copied = await copy_object(ends.task(ends.put(data)))
    found = ends.in_target()
    assert found is not None
    assert found.data == data
    assert found.attributes == DRESSED
    assert (found.encryption.algorithm, found.encryption.key) == ("aws:kms", KEY_ARN)
    assert copied.written.etag == found.etag
    assert copied.source.attributes.metadata == DRESSED.metadata
    assert copied.source.tags == DRESSED.tags
    assert ends.script.count(publishes) == 1
    assert ends.uploads == 0
    assert ends.budget.bytes_in_flight == 0


@every_way
async def test_an_object_without_anything_along_arrives_as_it_is(
    server_side: bool, data: bytes, publishes: str
) -> None:
    ends = Ends(server_side)
    await copy_object(ends.task(ends.put(data, Attributes(headers={"content-type": "text/html"}))))
    found = ends.in_target()
    assert found is not None
    assert found.attributes == Attributes(headers={"content-type": "text/html"})
    assert ends.script.count("read_tags") == 0


@pytest.mark.parametrize("server_side", [False, True])
async def test_an_object_of_no_bytes_is_one_request(server_side: bool) -> None:
    ends = Ends(server_side)
    await copy_object(ends.task(ends.put(b"")))
    found = ends.in_target()
    assert found is not None
    assert found.data == b""
    assert ends.script.count("begin_upload") == 0


@every_way
async def test_what_stands_where_nothing_should_is_kept(
    server_side: bool, data: bytes, publishes: str
) -> None:
    ends = Ends(server_side)
    ends.put_target(b"foreign")
    with pytest.raises(PreconditionError):
        await copy_object(ends.task(ends.put(data), IfAbsent()))
    found = ends.in_target()
    assert found is not None
    assert found.data == b"foreign"
    assert ends.uploads == 0


@every_way
async def test_exactly_the_version_that_is_named_is_overwritten(
    server_side: bool, data: bytes, publishes: str
) -> None:
    ends = Ends(server_side)
    former = ends.put_target(b"the former copy")
    source = ends.put(data)
    with pytest.raises(PreconditionError):
        await copy_object(ends.task(source, IfMatches("another")))
    await copy_object(ends.task(source, IfMatches(former.etag)))
    found = ends.in_target()
    assert found is not None
    assert found.data == data
    assert ends.uploads == 0


@every_way
@pytest.mark.parametrize("then", ["overwritten", "removed"])
async def test_a_source_that_is_another_by_now_is_not_copied(
    server_side: bool, data: bytes, publishes: str, then: str
) -> None:
    ends = Ends(server_side)
    version = ends.put(data)
    if then == "overwritten":
        ends.put(data)
    else:
        ends.remove()
    with pytest.raises(SourceChangedError):
        await copy_object(ends.task(version))
    assert ends.in_target() is None
    assert ends.uploads == 0


@pytest.mark.parametrize(
    ("server_side", "data", "operation", "nth"),
    [
        (True, SMALL, "copy", 1),
        (False, LARGE, "put_part", 2),
        (True, LARGE, "copy_part", 3),
    ],
)
@pytest.mark.parametrize("gone", [False, True])
async def test_a_source_that_changes_in_between_never_makes_a_mixture(
    server_side: bool, data: bytes, operation: str, nth: int, gone: bool
) -> None:
    """Between head and copy, between parts."""
    ends = Ends(server_side)
    version = ends.put(data)
    change: Callable[[], object] = ends.remove if gone else lambda: ends.put(b"another" * len(data))
    ends.script.on(operation, nth=nth).first(change)
    with pytest.raises((PreconditionError, NotFoundError)):
        await copy_object(ends.task(version))
    assert ends.in_target() is None
    assert ends.uploads == 0


async def test_a_source_overwritten_between_read_and_put_is_copied_as_it_was_read() -> None:
    ends = Ends()
    version = ends.put(SMALL)
    ends.script.on("put").first(lambda: ends.put(b"another"))
    await copy_object(ends.task(version))
    found = ends.in_target()
    assert found is not None
    assert found.data == SMALL


@in_parts
@pytest.mark.parametrize(
    ("size_bytes", "parts"),
    [
        (5 * MEBIBYTE, [5]),
        (5 * MEBIBYTE + 1, [5, 0]),
        (10 * MEBIBYTE, [5, 5]),
        (10 * MEBIBYTE - 1, [5, 4]),
    ],
)
async def test_parts_cover_the_object_exactly(
    server_side: bool, makes_part: str, size_bytes: int, parts: list[int]
) -> None:
    ends = Ends(server_side)
    data = bytes(size_bytes)
    await copy_object(ends.task(ends.put(data)))
    found = ends.in_target()
    assert found is not None
    assert found.data == data
    one_request = server_side and size_bytes <= 5 * MEBIBYTE
    assert ends.script.count(makes_part) == (0 if one_request else len(parts))


@in_parts
@pytest.mark.parametrize("operation", ["a part", "complete_upload"])
async def test_an_upload_that_fails_is_aborted(server_side: bool, makes_part: str, operation: str) -> None:
    ends = Ends(server_side)
    name = makes_part if operation == "a part" else operation
    ends.script.on(name, nth=2 if operation == "a part" else 1).fails(UnavailableError)
    with pytest.raises(UnavailableError):
        await copy_object(ends.task(ends.put(LARGE)))
    assert ends.script.count("abort_upload") == 1
    assert ends.uploads == 0
    assert ends.in_target() is None


@in_parts
@pytest.mark.parametrize("operation", ["a part", "complete_upload"])
async def test_an_upload_that_is_cancelled_is_aborted(
    server_side: bool, makes_part: str, operation: str
) -> None:
    ends = Ends(server_side)
    arrived = asyncio.Event()
    ends.script.on(makes_part if operation == "a part" else operation).hangs(arrived)
    ends.script.on("abort_upload").waits(0.02)
    copying = asyncio.create_task(copy_object(ends.task(ends.put(LARGE))))
    await arrived.wait()
    assert ends.uploads == 1
    copying.cancel()
    await asyncio.sleep(0.005)
    copying.cancel()  # whoever is in a hurry doesn't keep it from being aborted
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert ends.uploads == 0
    assert ends.budget.bytes_in_flight == 0


@in_parts
@pytest.mark.parametrize("error", [UnavailableError, StoreRefusedError])
async def test_an_abort_that_fails_hides_nothing(
    server_side: bool, makes_part: str, error: type[StoreError]
) -> None:
    ends = Ends(server_side)
    ends.script.on(makes_part).fails(InterruptedTransferError)
    ends.script.on("abort_upload").fails(error)
    with pytest.raises(InterruptedTransferError):
        await copy_object(ends.task(ends.put(LARGE)))


@in_parts
async def test_an_upload_amid_which_the_claim_is_lost_is_aborted_all_the_same(
    server_side: bool, makes_part: str
) -> None:
    ends = Ends(server_side)
    ends.claim.asked_max = 2  # beginning it, and one part
    with pytest.raises(ClaimLostError):
        await copy_object(ends.task(ends.put(LARGE)))
    assert ends.script.count(makes_part) >= 1
    assert ends.script.count("abort_upload") == 1
    assert ends.uploads == 0
    assert ends.in_target() is None


async def test_a_lost_claim_begins_nothing_and_is_said() -> None:
    for server_side, data, _ in WAYS.values():
        ends = Ends(server_side)
        ends.claim.lost = True
        with pytest.raises(ClaimLostError):
            await copy_object(ends.task(ends.put(data)))
        assert ends.in_target() is None
        assert ends.uploads == 0


@pytest.mark.parametrize(
    ("data", "operation", "nth", "publishes"),
    [
        (SMALL, "copy", 1, "put"),
        (LARGE, "copy_part", 1, "complete_upload"),
        (LARGE, "copy_part", 2, "complete_upload"),
        (LARGE, "begin_upload", 1, "complete_upload"),
    ],
)
async def test_what_a_store_does_not_implement_is_streamed(
    data: bytes, operation: str, nth: int, publishes: str
) -> None:
    ends = Ends(server_side=True)
    ends.script.on(operation, nth=nth).fails(StoreRefusedError, "NotImplemented")
    copied = await copy_object(ends.task(ends.put(data)))
    found = ends.in_target()
    assert found is not None
    assert (found.data, found.attributes) == (data, DRESSED)
    assert copied.source.checksum == Checksum(crc64nvme(data), "streamed")
    assert ends.script.count(publishes) == 1
    assert ends.uploads == 0


async def test_what_a_store_refuses_otherwise_is_not_streamed() -> None:
    ends = Ends(server_side=True)
    ends.script.on("copy").fails(StoreRefusedError, "InvalidRequest")
    with pytest.raises(StoreRefusedError):
        await copy_object(ends.task(ends.put(SMALL)))
    assert ends.script.count("put") == 0


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"?", lambda _: b""])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["whole", "parts"])
async def test_bytes_of_another_length_are_never_published(
    data: bytes, damage: Callable[[bytes], bytes]
) -> None:
    ends = Ends()
    ends.script.always("read").gives_bytes(damage)
    with pytest.raises(InterruptedTransferError):
        await copy_object(ends.task(ends.put(data)))
    assert ends.in_target() is None
    assert ends.uploads == 0


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["whole", "parts"])
async def test_bytes_without_the_checksum_that_the_source_reports_are_never_published(data: bytes) -> None:
    ends = Ends()
    ends.script.always("read").gives_bytes(lambda read: b"\xff" + read[1:])
    with pytest.raises(InterruptedTransferError):
        await copy_object(ends.task(ends.put(data)))
    assert ends.in_target() is None
    assert ends.uploads == 0


async def test_one_damaged_read_is_read_again() -> None:
    ends = Ends()
    ends.script.on("read").gives_bytes(lambda read: read[:-1])
    await copy_object(ends.task(ends.put(SMALL)))
    assert ends.script.count("read") == 2


@pytest.mark.parametrize(
    ("computes", "source_reports", "believed"),
    [(True, False, True), (True, True, False), (False, True, False), (False, False, False)],
)
async def test_a_copied_checksum_is_believed_only_where_the_store_computed_it(
    computes: bool, source_reports: bool, believed: bool
) -> None:
    ends = Ends(server_side=True, computes_copied_checksums=computes)
    copied = await copy_object(ends.task(ends.put(SMALL, reported_crc=source_reports)))
    assert copied.target_computes is believed
    assert (copied.source.checksum is None) is not source_reports


async def test_the_ends_are_what_the_route_says() -> None:
    ends = Ends()
    await copy_object(ends.task(ends.put(SMALL)))
    assert {call.bucket for call in ends.script.mutations()} == {TARGET.bucket}
    assert {call.bucket for call in ends.script.calls if not call.mutates} == {SOURCE.bucket}


async def test_no_more_is_read_than_the_budget_holds() -> None:
    """Three objects at once, each of more than half the budget: the others aren't begun before the first is done."""
    ends = Ends(budget=ByteBudget(MEBIBYTE))
    tasks = [ends.task(ends.put(bytes(600 * 1024), name=f"{number}")) for number in range(3)]
    came, going_on = asyncio.Event(), asyncio.Event()
    written: list[int] = []

    async def note(_call: Call) -> None:
        written.append(ends.budget.bytes_in_flight)
        came.set()
        await going_on.wait()

    ends.script.always("put").first_await(note)
    copies = [asyncio.create_task(copy_object(task)) for task in tasks]
    await came.wait()
    for _ in range(100):  # whatever could go on would have by now
        await asyncio.sleep(0)
    assert ends.script.count("read") == 1
    assert written == [600 * 1024]
    going_on.set()
    await asyncio.gather(*copies)
    assert ends.script.count("read") == 3
    assert max(written) <= MEBIBYTE
    assert ends.budget.bytes_in_flight == 0


@in_parts
async def test_parts_are_made_side_by_side(server_side: bool, makes_part: str) -> None:
    """The first doesn't end before the second has begun."""
    ends = Ends(server_side)
    second_came = asyncio.Event()

    async def wait_for_the_second(_call: Call) -> None:
        if ends.script.count(makes_part) == 2:
            second_came.set()
        await second_came.wait()

    ends.script.always(makes_part).first_await(wait_for_the_second)
    async with asyncio.timeout(HANG_SECONDS):
        await copy_object(ends.task(ends.put(LARGE)))
    assert ends.script.count(makes_part) == 3
    found = ends.in_target()
    assert found is not None
    assert found.data == LARGE
