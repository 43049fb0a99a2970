"""One object's journey as one outcome: settled by reading, kept where it isn't ours, stale where the source changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from rekeyd.domain.errors import (
    AccessDeniedError,
    ClaimLostError,
    InterruptedTransferError,
    KeyUnusableError,
    NotFoundError,
    StoreError,
    StoreRefusedError,
    ThrottledError,
    UnavailableError,
)
from rekeyd.domain.objects import Encryption, ObjectVersion
from rekeyd.ledger.port import ObjectOutcome, ObjectRow
from rekeyd.transfer.attempt import CONFLICT
from rekeyd.transfer.carry import carry
from rekeyd.transfer.checksum import crc64nvme
from tests.doubles.ends import DRESSED, MEBIBYTE, SOURCE, TARGET, Ends, row

SMALL = b"small"
LARGE = bytes(range(256)) * (6 * MEBIBYTE // 256)
WAYS = {
    "stream_whole": (False, SMALL, "put"),
    "stream_parts": (False, LARGE, "complete_upload"),
    "copy_whole": (True, SMALL, "copy"),
    "copy_parts": (True, LARGE, "complete_upload"),
}
every_way = pytest.mark.parametrize(("server_side", "data", "publishes"), WAYS.values(), ids=WAYS)


async def carried(ends: Ends, each: ObjectRow) -> ObjectOutcome:
    return await carry(each, ends.route, ends.means, ends.claim)


def stands(ends: Ends, data: bytes, outcome: ObjectOutcome) -> None:
    """The copy that was verified is what stands there."""
    found = ends.in_target()
    assert found is not None
    assert found.data == data
    assert (outcome.state, outcome.verdict) == ("verified", "verified"), outcome.reason
    assert outcome.target == found.version("name")
    assert outcome.crc64nvme == crc64nvme(data)
    assert ends.uploads == 0


@every_way
async def test_a_copy_is_verified_before_it_counts(server_side: bool, data: bytes, publishes: str) -> None:
    ends = Ends(server_side)
    outcome = await carried(ends, row(ends.put(data)))
    stands(ends, data, outcome)
    expected = "computed_by_provider/read" if server_side else "streamed/computed_by_provider"
    assert outcome.evidence == expected


@pytest.mark.parametrize("server_side", [False, True])
async def test_a_store_that_checks_no_checksums_is_not_believed(server_side: bool) -> None:
    ends = Ends(server_side, target_checks_checksums=False)
    outcome = await carried(ends, row(ends.put(SMALL, reported_crc=False)))
    stands(ends, SMALL, outcome)
    assert outcome.evidence.endswith("/read")


@every_way
async def test_an_answer_that_was_lost_is_settled_by_reading(
    server_side: bool, data: bytes, publishes: str
) -> None:
    ends = Ends(server_side)
    source = ends.put(data)
    ends.script.on(publishes).loses_answer(UnavailableError)
    first = await carried(ends, row(source))
    assert (first.state, first.verdict) == ("listed", None)
    etag = ends.in_target()
    second = await carried(ends, row(source, attempts=1))
    stands(ends, data, second)
    assert ends.in_target() is etag, "nothing was written again"
    assert second.evidence.endswith("/read"), "nobody tells how these bytes came there"


@every_way
async def test_the_answer_to_an_overwriting_that_was_lost_is_settled_by_reading(
    server_side: bool, data: bytes, publishes: str
) -> None:
    ends = Ends(server_side)
    former = ends.put_target(b"the former copy")
    source = ends.put(data)
    ends.script.on(publishes).loses_answer(UnavailableError)
    assert (await carried(ends, row(source, former))).state == "listed"
    stands(ends, data, await carried(ends, row(source, former, attempts=1)))


async def test_an_upload_that_is_gone_at_complete_is_settled_by_reading() -> None:
    """Completed by a call whose answer was lost: the repeated one finds no upload."""
    ends = Ends()
    source = ends.put(LARGE)
    ends.script.on("complete_upload").loses_answer(NotFoundError)
    stands(ends, LARGE, await carried(ends, row(source)))


async def test_an_upload_that_vanished_is_begun_anew() -> None:
    ends = Ends()
    source = ends.put(LARGE)
    ends.script.on("complete_upload").first(ends.target_shelf.uploads.clear)
    stands(ends, LARGE, await carried(ends, row(source)))
    assert ends.script.count("begin_upload") == 2


@every_way
@pytest.mark.parametrize("foreign", [b"of another length", None], ids=["length", "content"])
async def test_foreign_content_is_kept_and_reported(
    server_side: bool, data: bytes, publishes: str, foreign: bytes | None
) -> None:
    ends = Ends(server_side)
    kept = ends.put_target(b"?" * len(data) if foreign is None else foreign)
    outcome = await carried(ends, row(ends.put(data)))
    assert outcome.state == "failed"
    assert outcome.reason.startswith(CONFLICT)
    found = ends.in_target()
    assert found is not None
    assert found.etag == kept.etag
    assert ends.script.count("delete") == 0


@every_way
async def test_an_earlier_version_of_ours_is_overwritten_if_it_matches(
    server_side: bool, data: bytes, publishes: str
) -> None:
    ends = Ends(server_side)
    earlier = ObjectVersion(SOURCE.prefix + "name", 7, "an earlier one")
    ends.put_target(b"earlier")
    stands(ends, data, await carried(ends, row(ends.put(data), None, earlier)))


async def test_who_overwrites_an_earlier_version_in_between_is_not_overwritten() -> None:
    ends = Ends()
    earlier = ObjectVersion(SOURCE.prefix + "name", 7, "an earlier one")
    ends.put_target(b"earlier")
    ends.script.on("put", nth=2).first(lambda: ends.put_target(b"foreign, and longer"))
    outcome = await carried(ends, row(ends.put(SMALL), None, earlier))
    found = ends.in_target()
    assert found is not None
    assert found.data == b"foreign, and longer"
    assert outcome.reason.startswith(CONFLICT)


async def test_a_target_that_never_stands_still_is_given_up_for_this_time() -> None:
    ends = Ends()
    former = ends.put_target(b"former")
    source = ends.put(SMALL)
    earlier = ObjectVersion(SOURCE.prefix + "name", 6, "an earlier one")
    ends.script.always("put").first(lambda: ends.put_target(b"moving"))
    outcome = await carried(ends, row(source, former, earlier))
    assert outcome.state == "listed"
    assert ends.script.count("put") == 2


async def test_a_copy_that_was_removed_from_the_target_is_made_again() -> None:
    ends = Ends()
    gone = ObjectVersion("name", 3, "gone")
    stands(ends, SMALL, await carried(ends, row(ends.put(SMALL), gone)))


@every_way
@pytest.mark.parametrize("gone", [False, True], ids=["overwritten", "removed"])
async def test_a_source_that_changed_before_it_was_copied_is_stale(
    server_side: bool, data: bytes, publishes: str, gone: bool
) -> None:
    ends = Ends(server_side)
    former = ends.put_target(b"the former copy")
    source = ends.put(data)
    if gone:
        ends.remove()
    else:
        ends.put(data)
    outcome = await carried(ends, row(source, former))
    assert outcome.state == "stale"
    found = ends.in_target()
    assert found is not None
    assert found.etag == former.etag


@pytest.mark.parametrize(
    ("server_side", "data", "operation"),
    [
        (True, SMALL, "copy"),
        (True, LARGE, "copy_part"),
        (False, LARGE, "put_part"),
        (False, SMALL, "read_tags"),
    ],
)
async def test_a_source_that_changes_while_it_is_copied_is_stale(
    server_side: bool, data: bytes, operation: str
) -> None:
    ends = Ends(server_side)
    source = ends.put(data)
    ends.script.on(operation).first(ends.remove)
    outcome = await carried(ends, row(source))
    assert outcome.state == "stale"
    assert ends.in_target() is None
    assert ends.uploads == 0


@pytest.mark.parametrize("gone", [False, True], ids=["overwritten", "removed"])
async def test_a_source_that_changes_between_copy_and_verification_is_stale(gone: bool) -> None:
    """Its bytes were to be read, and are no longer there: no attempt in vain, whose number is bounded."""
    ends = Ends(server_side=True)
    ends.object_attempts_max = 1
    source = ends.put(SMALL, reported_crc=False)
    change: Callable[[], object] = ends.remove if gone else lambda: ends.put(b"newer")
    ends.script.on("copy").then(change)
    outcome = await carried(ends, row(source))
    assert outcome.state == "stale"
    assert outcome.target == (found.version("name") if (found := ends.in_target()) else None)


@pytest.mark.parametrize(
    "damage",
    [
        lambda ends: ends.script.always("read", bucket=TARGET.bucket).gives_bytes(
            lambda data: b"?" + data[1:]
        ),
        lambda ends: ends.script.always("head", bucket=TARGET.bucket).answers(
            lambda head: replace(head, encryption=Encryption("aws:kms", "another"))
        ),
        lambda ends: ends.script.always("head", bucket=TARGET.bucket).answers(
            lambda head: replace(head, version=replace(head.version, size_bytes=3))
        ),
        lambda ends: ends.script.always("read_tags", bucket=TARGET.bucket).answers(lambda _: {}),
    ],
    ids=["bytes", "key", "size", "tags"],
)
@pytest.mark.parametrize("server_side", [False, True])
async def test_what_differs_is_tried_again_and_then_given_up(
    server_side: bool, damage: Callable[[Ends], object]
) -> None:
    ends = Ends(server_side, read_back=True)
    source = ends.put(SMALL)
    damage(ends)
    attempt = row(source)
    for attempts in range(ends.object_attempts_max):
        outcome = await carried(ends, replace(attempt, attempts=attempts))
        assert outcome.verdict in ("mismatch", None)
        assert outcome.state == ("failed" if attempts == ends.object_attempts_max - 1 else "listed")
        assert outcome.reason
        attempt = replace(attempt, target=outcome.target or attempt.target)
    assert ends.script.count("delete") == 0
    ends.script.clear()
    stands(ends, SMALL, await carried(ends, attempt))


async def test_a_copy_that_is_not_there_after_its_success_counts_for_nothing() -> None:
    ends = Ends()
    source = ends.put(SMALL)
    objects = ends.target_shelf.buckets[TARGET.bucket].objects
    ends.script.on("put").then(lambda: objects.pop("name"))
    outcome = await carried(ends, row(source))
    assert (outcome.state, outcome.verdict) == ("listed", None)
    stands(ends, SMALL, await carried(ends, row(source, outcome.target)))


async def test_a_copy_that_was_replaced_after_its_success_counts_for_nothing() -> None:
    ends = Ends()
    ends.script.on("put").then(lambda: ends.put_target(b"somebody's"))
    outcome = await carried(ends, row(ends.put(SMALL)))
    assert (outcome.state, outcome.verdict) == ("listed", None)


@pytest.mark.parametrize(
    "error", [UnavailableError, ThrottledError, InterruptedTransferError, StoreRefusedError]
)
@pytest.mark.parametrize("operation", ["read", "put", "head"])
async def test_errors_of_one_object_are_its_outcome_a_bounded_number_of_times(
    error: type[StoreError], operation: str
) -> None:
    ends = Ends()
    source = ends.put(SMALL)
    ends.script.always(operation).fails(error)
    states = [(await carried(ends, row(source, attempts=attempts))).state for attempts in range(3)]
    assert states == ["listed", "listed", "failed"]


@pytest.mark.parametrize("error", [KeyUnusableError, AccessDeniedError])
@pytest.mark.parametrize("operation", ["read", "put", "head", "read_tags"])
async def test_errors_that_concern_all_objects_are_raised(error: type[StoreError], operation: str) -> None:
    ends = Ends()
    ends.script.always(operation).fails(error)
    with pytest.raises(error):
        await carried(ends, row(ends.put(SMALL)))


async def test_a_lost_claim_is_raised() -> None:
    ends = Ends()
    ends.claim.lost = True
    with pytest.raises(ClaimLostError):
        await carried(ends, row(ends.put(SMALL)))


@pytest.mark.parametrize("name", [".rekeyd/canary", ".rekeyd/", ".rekeyd/x/y"])
async def test_keys_that_are_ours_in_a_dedicated_bucket_are_refused(name: str) -> None:
    ends = Ends()
    outcome = await carried(ends, row(ends.put(SMALL, name=name)))
    assert outcome.state == "failed"
    assert ".rekeyd/" in outcome.reason
    assert ends.script.calls == []


async def test_an_object_larger_than_any_store_takes_is_an_outcome() -> None:
    ends = Ends()
    outcome = await carried(ends, row(ObjectVersion(SOURCE.prefix + "name", 1 << 60, "etag")))
    assert outcome.state == "listed"


@pytest.mark.parametrize("name", ["a//b", "/a", "a/", "./a"])
async def test_a_copy_that_the_store_keeps_under_another_key_is_not_verified(name: str) -> None:
    ends = Ends(keeps_as=lambda key: "/".join(step for step in key.split("/") if step not in {"", "."}))
    outcome = await carried(ends, row(ends.put(SMALL, name=name)))
    assert (outcome.state, outcome.verdict) == ("listed", "mismatch")
    assert "under another key" in outcome.reason


@pytest.mark.parametrize("name", ["a//b", "/a", "a/", "%2F", "a+b", "ä\n"])
async def test_a_store_that_keeps_keys_as_they_are_gets_them_all(name: str) -> None:
    ends = Ends()
    outcome = await carried(ends, row(ends.put(SMALL, DRESSED, name=name)))
    assert outcome.state == "verified"
    assert ends.in_target(name) is not None
