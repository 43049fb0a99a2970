"""The explorer itself: a model that it calls safe must have been looked at whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.explorer import Model, Rule, changes, explore
from tests.model.placement import renamed


class CounterRule(Rule):
    ATOMIC = "What was read is written back before anybody else reads."


class Hand(NamedTuple):
    has_read: int | None = None
    done: bool = False


class Counting(NamedTuple):
    value: int = 0
    left: Hand = Hand()
    right: Hand = Hand()


Rules = frozenset[CounterRule]


def left_reads(rules: Rules, state: Counting) -> Iterator[Counting]:
    busy = state.right.has_read is not None and CounterRule.ATOMIC in rules
    if state.left == Hand() and not busy:
        yield state._replace(left=Hand(state.value))


def left_writes(rules: Rules, state: Counting) -> Iterator[Counting]:
    if state.left.has_read is not None:
        yield state._replace(value=state.left.has_read + 1, left=Hand(done=True))


def right_reads(rules: Rules, state: Counting) -> Iterator[Counting]:
    busy = state.left.has_read is not None and CounterRule.ATOMIC in rules
    if state.right == Hand() and not busy:
        yield state._replace(right=Hand(state.value))


def right_writes(rules: Rules, state: Counting) -> Iterator[Counting]:
    if state.right.has_read is not None:
        yield state._replace(value=state.right.has_read + 1, right=Hand(done=True))


def nothing_happens(rules: Rules, state: Counting) -> Iterator[Counting]:
    yield state


def lost_count(rules: Rules, state: Counting) -> str | None:
    both = state.left.done and state.right.done
    return "a count is lost" if both and state.value != 2 else None


ACTIONS = (left_reads, left_writes, right_reads, right_writes, nothing_happens)


def counting(*rules: CounterRule) -> Model[Counting, CounterRule]:
    return Model(Counting(), ACTIONS, lost_count, frozenset(rules))


def test_a_safe_model_is_explored_whole() -> None:
    found = explore(counting(CounterRule.ATOMIC), 100)

    assert found.violation is None
    assert found.complete
    assert str(found) == "no violation in 8 states"
    assert Counting(2, Hand(done=True), Hand(done=True)) in found.reached


def test_an_action_that_changes_nothing_counts_as_one_that_never_happens() -> None:
    found = explore(counting(CounterRule.ATOMIC), 100)

    assert found.taken["nothing_happens"] == 0
    assert min(count for name, count in found.taken.items() if name != "nothing_happens") > 0


def test_the_shortest_course_to_a_violation_is_told() -> None:
    found = explore(counting(), 100)

    assert found.violation == "a count is lost"
    assert not found.complete
    assert sorted(action for action, _ in found.trace) == [
        "it_begins",
        "left_reads",
        "left_writes",
        "right_reads",
        "right_writes",
    ]
    assert str(found).splitlines()[-1].endswith("VIOLATION: a count is lost")
    assert "left.has_read=0" in str(found)


def test_a_bound_that_cuts_it_short_is_told() -> None:
    found = explore(counting(CounterRule.ATOMIC), 3)

    assert found.violation is None
    assert not found.complete
    assert str(found).endswith("cut short")


def test_what_changed_is_named_by_its_path() -> None:
    before = Counting(0, Hand(0), Hand())

    assert changes(before, before) == ""
    assert changes(before, Counting(1, Hand(done=True), Hand())) == "value=1 left.has_read=- left.done=True"


def test_contents_are_named_by_their_order_and_nothing_stays_nothing() -> None:
    assert renamed(7, 0, 3, 7) == [1, 0, 2, 1]
    assert renamed(3, 9, 3) == renamed(1, 2, 1)
