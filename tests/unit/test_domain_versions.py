"""Histories as values, and locks: two that protect alike are equal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.domain.objects import LockMode, ObjectLock, ObjectVersion, parse_time

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
times = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - the zones are added
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


def test_a_history_is_a_chain_that_ends_in_its_newest() -> None:
    first, marker = ObjectVersion("k", 3, "a", "1"), ObjectVersion("k", 0, "", "2", marker=True)
    newest = ObjectVersion("k", 4, "c", "3", older=(first, marker))

    assert newest.chain == (first, marker, ObjectVersion("k", 4, "c", "3"))
    assert newest.history_bytes == 7
    assert first.chain == (first,)
    assert first.history_bytes == 3


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
        ("2030-01-01T00:00:00.000Z", "2030-01-01T00:00:00Z"),
        ("2030-01-01T00:00:00.000000000Z", "2030-01-01T00:00:00Z"),
        ("2030-01-01T02:00:00+02:00", "2030-01-01T00:00:00Z"),
        ("2029-12-31t23:30:00.250-00:30", "2030-01-01T00:00:00.25Z"),
        ("2030-01-01 00:00:00z", "2030-01-01T00:00:00Z"),
    ],
)
def test_a_time_has_one_spelling(text: str, spelling: str) -> None:
    assert ObjectLock("GOVERNANCE", text).retain_until == spelling


@given(times)
def test_locks_until_the_same_moment_are_equal(time: datetime) -> None:
    here = ObjectLock("COMPLIANCE", time.isoformat())
    there = ObjectLock("COMPLIANCE", time.astimezone(UTC).isoformat())

    assert here == there
    assert here.retain_until is not None
    assert parse_time(here.retain_until) == time


@pytest.mark.parametrize(
    ("mode", "until", "held"),
    [
        (None, None, False),
        ("GOVERNANCE", None, False),
        ("GOVERNANCE", None, True),
        (None, "2030-01-01T00:00:00Z", True),
        ("COMPLIANCE", "2030-01-01", False),
        ("COMPLIANCE", "2030-01-01T00:00:00", False),
        ("COMPLIANCE", "2030-13-01T00:00:00Z", False),
        ("COMPLIANCE", "Tue, 01 Jan 2030 00:00:00 GMT", False),
    ],
)
def test_what_is_no_lock_is_refused(mode: LockMode | None, until: str | None, held: bool) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ObjectLock(mode, until, held)


@pytest.mark.parametrize(
    ("held", "after_seconds", "protects"),
    [(False, -1, True), (False, 0, False), (False, 1, False), (True, 1, True)],
)
def test_a_lock_protects_until_its_time_and_while_it_is_held(
    held: bool, after_seconds: float, protects: bool
) -> None:
    lock = ObjectLock("GOVERNANCE", "2030-01-01T00:00:00Z", held)

    assert lock.protects_at(NEW_YEAR + timedelta(seconds=after_seconds)) == protects
