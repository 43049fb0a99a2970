"""Retiring, explored: retire.py says how."""

from __future__ import annotations

import pytest

from tests.model.retire import NOT_THERE, model
from tests.model.rules import RetireRule
from tests.model.verdicts import assert_breaks, assert_nothing_breaks

AFTER_DONE = "the source is deleted after cancel or revoke called itself done"
OUTLASTS = "a claim outlasts the stop by more than a lease"
BREAKS = {
    RetireRule.DEDICATED_ONLY: "while the tenant's data are read there",
    RetireRule.AFTER_OLD_RECORDS: "while somebody may hold a record that says so",
    RetireRule.READER_LOOKS_AGAIN: "a reader takes for absent what has only moved",
    RetireRule.KEY_CHECKED: "though the key had been disabled before",
    RetireRule.COPY_CHECKED: "whose copy had gone before",
    RetireRule.RESUMED_CHECKED: "though the key had been disabled before",
    RetireRule.INTENT_FIRST: "the source is deleted, and the ledger doesn't know",
    RetireRule.OUTCOME_AFTER: "the ledger says deleted, and the source stands",
    RetireRule.REMAINING_IS_THERE: NOT_THERE,
    RetireRule.DELETED_BY_VERSION: "a source version is deleted that was never verified",
    RetireRule.CLAIM_OUTLIVES_CALL: AFTER_DONE,
    RetireRule.CALLS_OUTLASTED: AFTER_DONE,
    RetireRule.DEADLINE_TESTED: AFTER_DONE,
    RetireRule.STOP_FORBIDS_CLAIMS: OUTLASTS,
    RetireRule.STOP_FORBIDS_RENEWALS: OUTLASTS,
    RetireRule.STOP_FORBIDS_INTENTS: "by an intent from after cancel or revoke",
    RetireRule.DONE_AFTER_CLAIMS: AFTER_DONE,
}

LANDMARKS = {
    "the source deleted": lambda state: state.row == "deleted" and state.source == "gone",
    "deleted, and the answer lost": lambda state: state.row == "retiring" and state.source == "gone",
    "deleted as the stop came, before it was done": lambda state: (
        state.job == "stopped" and state.source == "gone"
    ),
    "stopped for good with the source standing": lambda state: (
        state.job == "done" and state.source == "verified"
    ),
    "left standing for its copy's sake": lambda state: (
        state.row == "remaining" and state.source == "verified"
    ),
    "left to whoever replaced it": lambda state: state.row == "remaining" and state.source == "other",
    "an intent resumed": lambda state: (
        state.row == "retiring" and state.claim and state.claim.step == "checked"
    ),
    "a call whose sender is dead": lambda state: state.call and state.call.sent and state.held_by_nobody,
    "a request that missed its deadline": lambda state: (
        state.call and not state.call.sent and state.call.left == 1
    ),
    "a reader under way as the source goes": lambda state: state.reading and state.source == "gone",
}


def test_only_what_was_verified_and_stands_is_deleted_and_nothing_after_a_stop() -> None:
    assert_nothing_breaks(model(), LANDMARKS)


@pytest.mark.parametrize("rule", RetireRule, ids=lambda rule: rule.name)
def test_each_rule_of_retiring_is_needed(rule: RetireRule) -> None:
    assert_breaks(model(dropped=rule), BREAKS[rule])
