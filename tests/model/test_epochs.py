"""The control object and a restored ledger, explored: epochs.py says how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.epochs import State, misled, model
from tests.model.rules import EpochRule
from tests.model.verdicts import assert_breaks, assert_nothing_breaks

LOST = "doesn't hold what was written last"
FALSE_ALARM = "held although its ledger was never restored"
LOSES = (
    EpochRule.WRITTEN_ON_CONDITION,
    EpochRule.DEDICATED_HAS_ITS_OWN,
    EpochRule.SWITCH_IS_PROPOSAL,
    EpochRule.OPENED_AFTER_WRITTEN,
    EpochRule.UNKNOWN_EPOCH_HELD,
    EpochRule.COMPARED_BEFORE_SERVING,
    EpochRule.HELD_SERVES_NOTHING,
)
"""Without these a restored ledger sends clients where their data aren't. Without the others tenants stand still."""


def knows_it_is_dedicated(state: State) -> bool:
    return state.ledger.stored.phase == "dedicated"


LANDMARKS = {
    "held, after a restore": lambda state: state.restored and state.daemon == "held",
    "a restore that harms nothing": lambda state: state.restored and state.daemon == "serving",
    "a restored ledger that knows the switch": lambda state: (
        state.restored and knows_it_is_dedicated(state) and state.daemon == "serving"
    ),
    "a switch after a second pause": lambda state: knows_it_is_dedicated(state) and state.control.epoch > 4,
    "a tenant that has written to the target": lambda state: state.target not in (0, state.source),
    "a write that comes too late": lambda state: state.orphan and not state.orphan.matches,
    "a pause past its deadline": lambda state: state.ledger.stored.lapsed,
    "written, and not yet in effect": lambda state: (
        state.ledger.proposed is not None and state.control.epoch == state.ledger.proposed.epoch
    ),
}


def test_a_restored_ledger_loses_nothing_and_no_other_is_held() -> None:
    assert_nothing_breaks(model(), LANDMARKS)


@pytest.mark.parametrize("rule", EpochRule, ids=lambda rule: rule.name)
def test_each_rule_of_the_control_object_is_needed(rule: EpochRule) -> None:
    without = model(dropped=rule)
    if rule in LOSES:
        assert_breaks(replace(without, violation=misled), LOST)
    else:
        assert_breaks(without, FALSE_ALARM)


def test_a_restore_is_what_the_control_object_is_for() -> None:
    found = assert_breaks(replace(model(dropped=EpochRule.UNKNOWN_EPOCH_HELD), violation=misled), LOST)

    assert "ledger_is_restored" in [action for action, _ in found.trace]
