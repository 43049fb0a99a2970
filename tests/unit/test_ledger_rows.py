"""ledger.rows: the pure decisions about objects' rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.objects import NULL_VERSION, CarryState, ObjectVersion
from rekeyd.ledger.port import SEGMENT_BYTES_MAX, SEGMENT_OBJECTS_MAX, ObjectOutcome, ObjectRow
from rekeyd.ledger.rows import (
    DROPPED_KNOWN_MAX,
    PLANNED_BEFORE_MAX,
    Move,
    Row,
    Weight,
    cut,
    listed,
    missing,
    recorded,
)

WEIGHTS = st.lists(
    st.builds(Weight, st.integers(1, SEGMENT_OBJECTS_MAX + 3), st.integers(0, 2 * SEGMENT_BYTES_MAX)),
    max_size=40,
) | st.lists(
    st.builds(Weight, st.just(1), st.integers(0, 10)),
    min_size=SEGMENT_OBJECTS_MAX - 2,
    max_size=2 * SEGMENT_OBJECTS_MAX + 2,
)
FILLINGS = st.none() | st.builds(
    Weight, st.integers(0, SEGMENT_OBJECTS_MAX), st.integers(0, 2 * SEGMENT_BYTES_MAX)
)
STATES: tuple[CarryState, ...] = get_args(CarryState)
RETIRED = ("retiring", "deleted", "remaining")


def row(state: CarryState, planned: int = 0) -> Row:
    target = None if state in ("listed", "dropped") else ObjectVersion("a", 1, "copy")
    before = tuple(ObjectVersion("a", 1, f"v{number}") for number in range(planned))
    return Row(
        ObjectRow(ObjectVersion("a", 1, "now"), state, 2, target, before, 5), 7, "why", "streamed/read"
    )


def fits(weights: list[Weight], filling: Weight | None = None) -> bool:
    together = weights if filling is None else [filling, *weights]
    versions = sum(each.versions for each in together)
    return versions <= SEGMENT_OBJECTS_MAX and sum(each.size_bytes for each in together) <= SEGMENT_BYTES_MAX


@settings(max_examples=50)
@given(WEIGHTS, FILLINGS)
def test_every_object_has_one_place_and_no_segment_is_too_large(
    weights: list[Weight], filling: Weight | None
) -> None:
    joining, spans = cut(weights, filling)

    assert [*range(joining), *(index for span in spans for index in span)] == list(range(len(weights)))
    assert not joining or fits(weights[:joining], filling)
    for span in spans:
        assert len(span) == 1 or fits(weights[span.start : span.stop])
        assert len(span) >= 1


@settings(max_examples=50)
@given(WEIGHTS)
def test_no_segment_is_smaller_than_it_must_be(weights: list[Weight]) -> None:
    _, spans = cut(weights, None)
    for span, following in pairwise(spans):
        assert not fits(weights[span.start : following.start + 1])


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("etag", ["now", "later"])
def test_a_listed_row_is_carried_unless_it_is_verified_or_waits_already(state: CarryState, etag: str) -> None:
    former, version = row(state), ObjectVersion("a", 1, etag)
    if state in RETIRED:
        with pytest.raises(ConflictError):
            listed(former, version)
        return
    move = listed(former, version)
    if etag == "now" and state in ("listed", "verified"):
        assert move is None
        return
    assert move is not None
    assert move.joins == "carry"
    now = move.row.object
    assert (now.source, now.state) == (version, "listed")
    assert now.target == (None if state == "dropped" else former.object.target)
    assert now.attempts == (2 if etag == "now" else 0)
    assert now.crc64nvme is None
    assert now.planned_before == (() if etag == "now" or state == "verified" else (former.object.source,))


@pytest.mark.parametrize("state", ["listed", "verified", "stale", "excluded"])
@pytest.mark.parametrize(
    ("recorded", "named", "same"),
    [("1", "1", True), (None, "1", True), (None, None, True), ("1", "2", False), ("1", None, False)],
)
def test_another_time_of_modification_is_another_version(
    state: CarryState, recorded: str | None, named: str | None, *, same: bool
) -> None:
    former = row(state)
    former = replace(
        former, object=replace(former.object, source=ObjectVersion("a", 1, "now", modified=recorded))
    )
    version = ObjectVersion("a", 1, "now", modified=named)

    move = listed(former, version)

    if same and (state == "listed" or (state == "verified" and recorded == named)):
        assert move is None
        return
    assert move is not None
    assert move.row.object.source == version
    if same and state == "verified":
        assert move == Move(replace(former, object=replace(former.object, source=version)), None)
        return
    assert (move.joins, move.row.state) == ("carry", "listed")
    unsettled = not same and state != "verified"
    assert move.row.object.planned_before == ((former.object.source,) if unsettled else ())


BEGAN = 1_700_000_000.0
"""When the pass began that saw the row last: 2023-11-14T22:13:20Z."""


@pytest.mark.parametrize(
    ("modified", "version_id", "again"),
    [
        ("2023-11-14T22:13:17.000Z", None, False),
        ("2023-11-14T22:13:18.000Z", None, True),
        ("2023-11-14T22:13:20Z", None, True),
        ("2023-11-14T23:13:20+01:00", None, True),
        ("2033-11-14T22:13:20Z", None, True),
        ("2023-11-14T22:13:20.001Z", None, False),
        ("2023-11-14T22:13:20Z", NULL_VERSION, True),
        ("2023-11-14T22:13:20Z", "an id", False),
        ("yesterday", None, False),
        ("", None, False),
        (None, None, False),
    ],
)
def test_what_may_have_been_put_again_within_its_second_is_carried_again(
    modified: str | None, version_id: str | None, *, again: bool
) -> None:
    version = ObjectVersion("a", 1, "now", version_id, modified)
    former = replace(row("verified"), object=replace(row("verified").object, source=version, attempts=0))

    assert listed(former, version) is None, "it isn't known when it was seen"
    move = listed(former, version, BEGAN)

    if not again:
        assert move is None
        return
    assert move is not None
    assert (move.joins, move.row.state) == ("carry", "listed")
    now = move.row.object
    assert (now.source, now.target, now.planned_before) == (version, former.object.target, ())
    assert listed(replace(former, object=now), version, BEGAN) is None, "it waits to be carried"


@pytest.mark.parametrize("paused", [False, True], ids=["open", "paused"])
@pytest.mark.parametrize("state", STATES)
def test_a_missing_row_vanishes_once_and_a_dropped_one_once_more_in_a_pause(
    state: CarryState, paused: bool
) -> None:
    if state in RETIRED:
        with pytest.raises(ConflictError):
            missing(row(state), paused=paused)
        return
    move = missing(row(state), paused=paused)
    if state == "vanished" or (state == "dropped" and not paused):
        assert move is None
        return
    assert move is not None
    assert (move.joins, move.row.state, move.row.object.attempts) == ("sweep", "vanished", 0)
    assert move.row.object.target == row(state).object.target


def test_no_planned_version_is_ever_forgotten() -> None:
    former, seen = row("listed"), []
    for number in range(3 * PLANNED_BEFORE_MAX):
        if former.state == "listed":
            seen.append(former.object.source)
        move = listed(former, ObjectVersion("a", 1, f"v{number}"))
        assert move is not None
        former = move.row
        assert set(seen) <= set(former.object.planned_before)
    assert (former.state, len(former.object.planned_before)) == ("failed", PLANNED_BEFORE_MAX + 1)
    assert former.object.attempts > 0

    resumed = replace(former, object=replace(former.object, attempts=0))
    move = listed(resumed, ObjectVersion("a", 1, "after"))
    assert move is not None
    assert (move.joins, move.row.object.planned_before) == ("carry", former.object.planned_before)


def test_a_key_that_comes_and_goes_for_ever_never_fails_and_its_latest_versions_stay_ours() -> None:
    former, seen = row("listed"), []
    for number in range(3 * PLANNED_BEFORE_MAX):
        seen.append(former.object.source)
        vanished = missing(former, paused=False)
        assert vanished is not None
        dropped = recorded("sweep", vanished.row, ObjectOutcome(former.object.source, "dropped"))
        assert dropped is not None
        assert dropped.object.planned_before == tuple(seen[-DROPPED_KNOWN_MAX:])
        back = listed(dropped, ObjectVersion("a", 1, f"v{number}"))
        assert back is not None
        assert (back.joins, back.row.object.planned_before) == ("carry", dropped.object.planned_before)
        former = back.row
