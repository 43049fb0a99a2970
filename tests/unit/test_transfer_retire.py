"""Retiring: exactly the verified versions go, and only while their copies stand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.domain.errors import PreconditionError, UnavailableError
from rekeyd.domain.objects import Encryption, ObjectVersion
from rekeyd.ledger.port import ObjectRow
from rekeyd.stores.port import DeleteOutcome
from rekeyd.transfer.attempt import CONFLICT
from rekeyd.transfer.retire import drop_copy, retire_batch, standing_copies
from tests.doubles.ends import SOURCE, TARGET, Ends, row


def moved(ends: Ends, *names: str) -> list[ObjectRow]:
    """Objects in both places."""
    return [row(ends.put(b"data", name=name), ends.put_target(b"data", name=name)) for name in names]


def left(ends: Ends) -> set[str]:
    return {key.removeprefix(SOURCE.prefix) for key in ends.source_shelf.buckets[SOURCE.bucket].objects}


async def test_only_copies_that_are_recorded_and_stand_are_standing() -> None:
    ends = Ends()
    rows = moved(ends, "stands", "replaced", "gone", "never recorded")
    ends.put_target(b"data", name="replaced")
    del ends.target_shelf.buckets[TARGET.bucket].objects["gone"]
    rows[3] = replace(rows[3], target=None)
    assert await standing_copies(ends.route, rows, 2) == {SOURCE.prefix + "stands"}


async def test_a_copy_under_another_key_is_not_standing() -> None:
    ends = Ends()
    source = ends.put(b"data", name="a")
    copy = ends.put_target(
        b"data", name="a", under=Encryption("aws:kms", "arn:aws:kms:us-east-1:1:key/former")
    )
    assert await standing_copies(ends.route, [row(source, copy)], 1) == set()


async def test_a_head_that_fails_says_nothing_of_any() -> None:
    ends = Ends()
    rows = moved(ends, "a", "b", "c")
    ends.script.on("head", nth=2).fails(UnavailableError)
    with pytest.raises(UnavailableError):
        await standing_copies(ends.route, rows, 2)


async def test_each_version_has_its_own_outcome() -> None:
    ends = Ends()
    rows = moved(ends, "deleted", "changed", "gone before", "fails", "bystander")
    ends.put(b"newer", name="changed")
    ends.remove("gone before")

    def fail(answers: list[DeleteOutcome]) -> list[DeleteOutcome]:
        return [
            replace(each, result="failed") if each.version.key.endswith("fails") else each for each in answers
        ]

    ends.script.on("delete").answers(fail)
    outcomes, failed = await retire_batch(ends.route, [each.source for each in rows[:4]], ends.claim)
    assert [answer.version for answer in failed] == [rows[3].source]
    assert {each.source.key.removeprefix(SOURCE.prefix): each.state for each in outcomes} == {
        "deleted": "deleted",
        "changed": "remaining",
        "gone before": "deleted",
    }
    assert "changed" in left(ends)
    assert "bystander" in left(ends)
    assert all(each.reason for each in outcomes if each.state == "remaining")


async def test_a_batch_whose_answer_is_lost_can_be_repeated() -> None:
    ends = Ends()
    rows = moved(ends, "a", "b")
    ends.script.on("delete").loses_answer(UnavailableError)
    versions = [each.source for each in rows]
    with pytest.raises(UnavailableError):
        await retire_batch(ends.route, versions, ends.claim)
    ends.put(b"put again by a writer", name="a")
    outcomes, _ = await retire_batch(ends.route, versions, ends.claim)
    assert [each.state for each in outcomes] == ["remaining", "deleted"]
    assert left(ends) == {"a"}


async def test_a_source_that_is_overwritten_before_the_delete_is_kept() -> None:
    ends = Ends()
    (only,) = moved(ends, "a")
    ends.script.on("delete").first(lambda: ends.put(b"newer", name="a"))
    ((outcome,), _) = await retire_batch(ends.route, [only.source], ends.claim)
    assert outcome.state == "remaining"
    assert left(ends) == {"a"}


async def test_a_copy_of_what_vanished_is_dropped_as_it_was_just_read() -> None:
    ends = Ends()
    copy = ends.put_target(b"ours", name="a")
    vanished = row(ObjectVersion(SOURCE.prefix + "a", 4, "etag"))
    outcome = await drop_copy(ends.route, vanished, ends.claim)
    assert outcome.state == "dropped"
    assert ends.in_target("a") is None
    assert [call.versions for call in ends.script.mutations()] == [(copy,)]


async def test_what_is_no_copy_of_ours_is_kept_though_its_source_vanished() -> None:
    ends = Ends()
    ends.put_target(b"somebody else's", name="a")
    vanished = row(ObjectVersion(SOURCE.prefix + "a", 4, "etag"))
    outcome = await drop_copy(ends.route, vanished, ends.claim)
    assert outcome.state == "failed"
    assert outcome.reason.startswith(CONFLICT)
    assert ends.script.mutations() == []


async def test_what_has_no_copy_is_dropped_without_a_delete() -> None:
    ends = Ends()
    outcome = await drop_copy(ends.route, row(ObjectVersion(SOURCE.prefix + "a", 4, "etag")), ends.claim)
    assert outcome.state == "dropped"
    assert ends.script.mutations() == []


@pytest.mark.parametrize("result", ["changed", "failed"])
async def test_a_copy_that_could_not_be_dropped_is_not_called_dropped(result: str) -> None:
    ends = Ends()
    ends.put_target(b"copy", name="a")
    if result == "changed":
        ends.script.on("delete").first(lambda: ends.put_target(b"another", name="a"))
    else:
        ends.script.on("delete").answers(lambda answers: [replace(answers[0], result="failed")])
    with pytest.raises(PreconditionError):
        await drop_copy(ends.route, row(ObjectVersion(SOURCE.prefix + "a", 4, "etag")), ends.claim)
