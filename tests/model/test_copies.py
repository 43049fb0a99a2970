"""One key's way into the target, explored: copies.py says how."""

from __future__ import annotations

import pytest

from tests.model.copies import FOREIGN, NOTHING, State, model
from tests.model.known import DAMAGED
from tests.model.rules import CopyRule
from tests.model.verdicts import assert_breaks, assert_nothing_breaks

UNTRUE = "the ledger says verified, and the target holds something else"
DESTROYED = "what somebody else wrote is destroyed"
FALSE_ALARM = "a conflict is reported over a copy of ours"
LATE = "a call of ours changes the target after `dedicated`"
BREAKS = {
    CopyRule.SOURCE_PINNED: UNTRUE,
    CopyRule.WRITTEN_ON_CONDITION: DESTROYED,
    CopyRule.COPY_COMPARED: UNTRUE,
    CopyRule.SETTLED_BEFORE_VERIFIED: UNTRUE,
    CopyRule.PLANNED_IS_OURS: FALSE_ALARM,
    CopyRule.OVERWRITTEN_IS_OURS: FALSE_ALARM,
    CopyRule.CALLS_OUTLASTED: LATE,
    CopyRule.CLAIMED_AFTER_DEADLINES: LATE,
    CopyRule.PASS_AFTER_SEGMENTS: LATE,
    CopyRule.SOURCE_ASKED_AGAIN: "the target isn't what the source is",
    CopyRule.SWEPT_IF_OURS: DESTROYED,
    CopyRule.SWEPT_IF_MATCH: DESTROYED,
    CopyRule.DROPPED_SWEPT_AGAIN: "the target isn't what the source is",
}


def row_is(state: State, row: str) -> bool:
    return state.known is not None and state.known.state == row


LANDMARKS = {
    "two calls under way": lambda state: len(state.calls) > 1,
    "a call under way whose sender is dead": lambda state: state.claim == "left" and state.calls,
    "a version whose outcome isn't known": lambda state: state.known is not None and state.known.planned,
    "a conflict, held": lambda state: row_is(state, "failed") and state.target == FOREIGN,
    "damage on record": lambda state: state.known is not None and (state.known.copy or 0) > DAMAGED,
    "a listing that was wrong, found out": lambda state: state.omitted and row_is(state, "stale"),
    "a switch without the key": lambda state: state.phase == "dedicated" and row_is(state, "dropped"),
    "a put that was repeated and swept": lambda state: state.repeated and state.target == NOTHING,
    "a switch with it": lambda state: state.phase == "dedicated" and row_is(state, "verified"),
    "a tenant that deleted it since": lambda state: state.tenant_changed and state.target == NOTHING,
}


def test_what_is_verified_stands_and_what_is_dropped_stays_away() -> None:
    assert_nothing_breaks(model(), LANDMARKS)


@pytest.mark.parametrize("rule", CopyRule, ids=lambda rule: rule.name)
def test_each_rule_of_copying_is_needed(rule: CopyRule) -> None:
    assert_breaks(model(dropped=rule), BREAKS[rule])
